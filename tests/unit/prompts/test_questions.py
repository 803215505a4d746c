"""Questions under jailbreak prompts: the pairing by hand, and that each question is asked about equally often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalign.errors import DataError
from dalign.prompts.questions import Question, ask, load_questions
from dalign.records import Prompt
from dalign.specs.data import QuestionsSpec
from dalign.specs.run import PathsSpec

PROMPTS = [Prompt("made_up", str(i), f"You are a bard named {i}.", "harmful", str(i)) for i in range(3)]
QUESTIONS = [
    Question(f"{i // 2}/{i % 2}", f"How is wool {i} spun?", f"{i // 2}/{i % 2}", f"craft {i // 2}") for i in range(4)
]


def test_the_question_stands_below_the_prompt_and_gives_the_group() -> None:
    first, *rest = ask(PROMPTS, QUESTIONS, 1)
    assert first.text == "You are a bard named 0.\n\nHow is wool 0 spun?"
    assert (first.row, first.group, first.subset, first.kind) == ("0:0/0", "0/0", "craft 0", "harmful")
    assert [p.row for p in rest] == ["1:0/1", "2:1/0"]


def test_more_questions_a_prompt_lie_evenly_apart() -> None:
    assert [p.row for p in ask(PROMPTS, QUESTIONS, 2)] == ["0:0/0", "0:1/0", "1:0/1", "1:1/1", "2:1/0", "2:0/0"]
    assert len({p.id for p in ask(PROMPTS, QUESTIONS, 4)}) == 12


@given(st.integers(1, 30), st.integers(1, 9), st.data())
def test_no_question_is_asked_twice_under_a_prompt_and_all_about_equally(p: int, q: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, q))
    prompts = [Prompt("made_up", str(i), "a", "harmful", str(i)) for i in range(p)]
    questions = [Question(str(i), "b", str(i), "") for i in range(q)]
    asked = ask(prompts, questions, k)
    assert len({one.row for one in asked}) == p * k
    counts = Counter(one.group for one in asked)
    assert max(counts.values()) - min(counts.get(str(i), 0) for i in range(q)) <= k


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"per_prompt": 3}, r"b\.questions\.per_prompt=3: there are 2 questions"),
        ({"expected_rows": 390}, r"b\.questions: 2 rows where 390 are expected.*b\.questions\.expected_rows=null"),
        ({"row_id": "policy"}, "row id '0' stands at .*q.csv:2 already"),
        ({"text": "questoin"}, "did you mean 'question'"),
    ],
)
def test_what_does_not_fit_is_said_with_its_key(tmp_path: Path, fields: dict[str, object], says: str) -> None:
    (tmp_path / "q.csv").write_text("policy,q_id,question\n0,0,How is wool spun?\n0,1,How is silk spun?\n")
    spec = QuestionsSpec.model_validate({"format": "csv", "path": "q.csv", **fields})
    with pytest.raises(DataError, match=says):
        load_questions(spec, "b.questions", PathsSpec(data=str(tmp_path)))
