"""One trace a prompt from a scripted engine: what it is asked, and how each kind of ending is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from dalign.chat import Chat
from dalign.records import Prompt
from dalign.sample import Drawn, Request, sample_seed
from dalign.specs.model import ThinkSpec
from dalign.specs.stage import TeacherSpec
from dalign.toy import World
from dalign.toy.markup import THINK, teacher_turns, user_turn
from dalign.toy.tokens import build_tokenizer
from dalign.traces import build_traces

WORLD = World.of(0)
TOKENIZER = build_tokenizer(WORLD)
TEACHER = TeacherSpec(name="toy", id="toy")
PROMPTS = WORLD.prompts("toy_train")[:4]


class Scripted:
    """Draws given texts, and remembers what it was asked."""

    def __init__(self, *answers: tuple[str, str]) -> None:
        self.answers = answers
        self.asked: list[Request] = []

    def draw(self, requests: Sequence[Request]) -> list[Drawn]:
        self.asked = list(requests)
        return [Drawn(tuple(TOKENIZER(text)["input_ids"]), end) for text, end in self.answers]  # type: ignore[arg-type]


def build(
    engine: Scripted, prompts: Sequence[Prompt], *, seed: int = 0, context: int = 256, teacher: TeacherSpec = TEACHER
) -> Any:
    loaded: Any = SimpleNamespace(chat=Chat(TOKENIZER, ThinkSpec()), context=context)
    return build_traces(prompts, engine=engine, loaded=loaded, teacher=teacher, world_seed=0, seed=seed)


def test_paper_error_8_the_teacher_is_asked_in_its_own_template() -> None:
    engine = Scripted(("so </think> yes .", "stop"))
    build(engine, PROMPTS[:1], seed=5)
    expected = teacher_turns(WORLD.system(PROMPTS[0].categories), PROMPTS[0].text)
    assert TOKENIZER.decode(engine.asked[0].prompt_ids).split() == expected.split()
    assert engine.asked[0].seed == sample_seed(5, PROMPTS[0].id, 0)


def test_a_teacher_without_policies_reasons_over_the_question_and_leaves_none_on_record() -> None:
    engine = Scripted(("so </think> yes .", "stop"))
    (found,) = build(engine, PROMPTS[:1], teacher=TEACHER.model_copy(update={"system": "none"}))
    assert TOKENIZER.decode(engine.asked[0].prompt_ids).split() == f"{user_turn(PROMPTS[0].text)} {THINK}".split()
    assert (found.policies, found.categories, found.reasoning) == ((), PROMPTS[0].categories, "so")


def test_endings_are_recorded_as_they_came() -> None:
    engine = Scripted(
        ("the law </think> i must refuse .", "stop"),
        ("the law", "stop"),
        ("the law", "length"),
        ("a </think> b </think> in", "stop"),
    )
    found = build(engine, PROMPTS)
    assert [(t.reasoning, t.answer, t.finish_reason, t.dropped) for t in found] == [
        ("the law", "i must refuse .", "stop", ""),
        ("the law", "", "stop", "unclosed"),
        ("the law", "", "length", ""),
        ("a", "b </think> in", "stop", ""),
    ]
    for trace, prompt in zip(found, PROMPTS, strict=True):
        assert (trace.prompt_id, trace.question, trace.row) == (prompt.id, prompt.text, prompt.row)
        assert trace.policies == trace.categories == prompt.categories
        assert WORLD.policy(prompt.categories[0]) not in f"{trace.question} {trace.reasoning} {trace.answer}"


def test_prompt_that_fills_the_context_is_recorded_not_drawn() -> None:
    short = Prompt("made_up", "0", "how ?", "benign", "0", categories=("benign",))
    long = Prompt("made_up", "1", "how " * 300, "benign", "1", categories=("benign",))
    engine = Scripted(("so </think> help", "stop"))
    found = build(engine, [long, short])
    assert [(t.finish_reason, t.answer) for t in found] == [("overlong", ""), ("stop", "help")]
    assert len(engine.asked) == 1


def test_engine_that_loses_a_row_is_a_bug() -> None:
    with pytest.raises(ValueError, match="answered 1 of 2"):
        build(Scripted(("so </think> help", "stop")), PROMPTS[:2])


def test_a_rows_seed_does_not_depend_on_its_neighbours() -> None:
    first, second = Scripted(("a </think> b", "stop")), Scripted(("a </think> b", "stop"), ("a </think> b", "stop"))
    build(first, PROMPTS[1:2])
    build(second, PROMPTS[:2])
    assert first.asked[0] == second.asked[1]
