"""Examples are the sampler's prompt ids plus the completion; what does not fit is dropped and counted, never cut."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_stage import make_trace, make_traces
from transformers import AutoTokenizer

from dalign.chat import Chat
from dalign.errors import DataError
from dalign.specs.model import ThinkSpec
from dalign.train.examples import build_examples, in_validation, question_group


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> AutoTokenizer:
    return AutoTokenizer.from_pretrained(tiny_checkpoint)


def build(traces, chat, *, max_length=60, context=64, validation=0.0):  # type: ignore[no-untyped-def]
    return build_examples(traces, chat, max_length=max_length, context=context, validation=validation)


@pytest.mark.parametrize("where", ["prompt", "learnt", "none"])
def test_an_example_is_the_sampling_prompt_and_the_completion(tokenizer: AutoTokenizer, where: str) -> None:
    chat = Chat(tokenizer, ThinkSpec(where=where))
    trace = make_trace(0, reasoning="sing a song", answer="bake bread", question="how to paint")
    (example,) = build([trace], chat).train
    prompt, completion = example.ids[: example.completion_start], example.ids[example.completion_start :]
    assert prompt == chat.user_ids("how to paint", think=True)
    text = tokenizer.decode(completion)
    assert (
        text.split()
        == {
            "prompt": ["sing", "a", "song", "</think>", "bake", "bread", "<end>"],
            "learnt": ["<think>", "sing", "a", "song", "</think>", "bake", "bread", "<end>"],
            "none": ["bake", "bread", "<end>"],
        }[where]
    )
    assert tokenizer.decode(prompt).split()[-1] == ("<think>" if where == "prompt" else "<bot>")
    assert example.completion_tokens == len(text.split())


def test_over_long_examples_are_dropped_and_counted_at_the_exact_length(tokenizer: AutoTokenizer) -> None:
    chat = Chat(tokenizer, ThinkSpec())
    trace = make_trace(0, reasoning="a a a", answer="a", question="how to paint")
    length = len(build([trace], chat).train[0].ids)
    other = make_trace(1, reasoning="a", answer="a", question="sing")
    for limits in ({"max_length": length - 1}, {"context": length - 1}):
        found = build([trace, other], chat, **limits)
        assert found.dropped == {"over_long": 1}
        assert [e.id for e in found.train] == [other.id]
    assert build([trace, other], chat, max_length=length).dropped == {}
    with pytest.raises(DataError, match=rf"dropped {{'over_long': 1}}.*stage.max_length={length - 1}"):
        build([trace], chat, max_length=length - 1)


def test_what_lacks_a_part_is_dropped_under_its_reason(tokenizer: AutoTokenizer) -> None:
    good = make_trace(0)
    traces = [
        good,
        good,
        make_trace(1, reasoning=" \n"),
        make_trace(2, answer="  "),
        make_trace(3, dropped="unsafe"),
    ]
    found = build(traces, Chat(tokenizer, ThinkSpec()))
    assert found.dropped == {"duplicate": 1, "empty_answer": 1, "empty_reasoning": 1, "filtered": 1}
    assert [e.id for e in found.train] == [good.id]
    instruct = build([make_trace(1, reasoning="")], Chat(tokenizer, ThinkSpec(where="none")))
    assert instruct.dropped == {}


def test_the_split_keeps_equal_questions_together_and_does_not_move_when_traces_are_added(
    tokenizer: AutoTokenizer,
) -> None:
    chat = Chat(tokenizer, ThinkSpec())
    twins = [make_trace(i, question=f"how to  {w}") for i, w in enumerate(["Paint", "paint ", "PAINT"])]
    assert len({question_group(t.question) for t in twins}) == 1
    traces = make_traces(40)
    small, large = build(traces[:20] + twins, chat, validation=0.3), build(traces + twins, chat, validation=0.3)
    assert small.train
    assert small.validation
    for found in (small, large):
        assert not {e.group for e in found.train} & {e.group for e in found.validation}
    assert {e.id for e in small.validation} <= {e.id for e in large.validation}
    assert {e.id for e in small.train} <= {e.id for e in large.train}
    assert build(traces, chat).validation == ()


def test_neither_side_of_a_tiny_split_is_empty(tokenizer: AutoTokenizer) -> None:
    chat = Chat(tokenizer, ThinkSpec())
    for share in (0.001, 0.999):
        found = build(make_traces(3), chat, validation=share)
        assert (bool(found.train), bool(found.validation)) == (True, True)
    alone = build(make_traces(1), chat, validation=0.5)
    assert (len(alone.train), len(alone.validation)) == (1, 0)


def test_the_share_held_out_is_the_share_asked_for() -> None:
    groups = [question_group(f"question {i}") for i in range(4000)]
    assert sum(in_validation(g, 0.25) for g in groups) / 4000 == pytest.approx(0.25, abs=0.03)
