"""Grading by substring accepts what the released code accepts, and the project's own reading does not."""

from __future__ import annotations

import pytest
from judge_items import item

from dalign.judge.grades import GRADERS, AnswerJudge
from dalign.judge.substring import READING, SubstringJudge
from dalign.prompts.mmlu import choices
from dalign.toy.world import World

ON_LINES = "Which town is it?\nA. Rome\nB. Paris\nC. Oslo\nD. None of these\n\nEnd with a letter."


def graded(answer: str, **fields: object) -> tuple[bool, bool]:
    """(right by substring, right by the strict reading)."""
    one = item(answer, **fields)  # type: ignore[arg-type]
    (loose,) = SubstringJudge("answers").judge([one], "answer")
    (own,) = AnswerJudge("answers", GRADERS["answers"]).judge([one], "answer")
    return loose.correct[READING], own.correct["strict"]


@pytest.mark.parametrize(
    ("answer", "by_substring", "own"),
    [("#### 18", True, False), ("#### 8", True, True), ("8 of them, so #### 7", True, False), ("#### 7", False, False)],
)
def test_gold_8_accepts_18(answer: str, by_substring: bool, own: bool) -> None:
    assert graded(answer, kind="math", reference="8") == (by_substring, own)


@pytest.mark.parametrize(
    ("answer", "by_substring", "own"),
    [
        ("Paris is wrong. Answer: A", True, False),
        ("Answer: B", False, True),
        ("answer: B, paris", True, True),
        ("It is Oslo. Answer: C", False, False),
    ],
)
def test_the_text_of_the_right_choice_counts_wherever_it_stands(answer: str, by_substring: bool, own: bool) -> None:
    assert graded(answer, text=ON_LINES, kind="choice", reference="B") == (by_substring, own)


def test_the_reasoning_counts_too() -> None:
    one = item("Answer: A", text=ON_LINES, kind="choice", reference="B", reasoning="Is it Paris ? No.")
    (verdict,) = SubstringJudge("answers").judge([one], "answer")
    assert verdict.correct == {READING: True}
    assert verdict.part == "answer"


def test_choices_are_read_off_every_prompt_of_the_embedded_world() -> None:
    for prompt in World.of(0).prompts("toy_mmlu"):
        found = choices(prompt.text)
        assert list(found) == list("ABCD")
        assert prompt.text.endswith(" ".join(f"{k.lower()} {v}" for k, v in found.items()))


@pytest.mark.parametrize("text", ["Which?\nA. x\nB. y\nC. z", "Which?\nA. x\nB. y\nA. z\nD. w", "which one is it"])
def test_choices_that_cannot_be_told_are_none_and_the_verdict_is_unscored(text: str) -> None:
    assert choices(text) == {}
    (verdict,) = SubstringJudge("answers").judge([item("x", text=text, kind="choice", reference="A")], "answer")
    assert verdict.label == "unscored"
