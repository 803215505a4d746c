"""Grades the utility answers of a benchmark against its references: strict and flexible reading, side by side.

An answer that gives no number or letter is wrong, not unscored: it answered, and not with the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dalign.judge.answers import equal_letter, equal_number, letter_readings, number_readings
from dalign.judge.base import JudgeItem, unscored
from dalign.records import Part, Verdict

Grader = Callable[[str, str], dict[str, bool]]


def grade_number(text: str, gold: str) -> dict[str, bool]:
    """Whether each reading of ``text`` has the value of ``gold``."""
    return {name: equal_number(value, gold) for name, value in number_readings(text).items()}


def grade_letter(text: str, gold: str) -> dict[str, bool]:
    """Whether each reading of ``text`` is the letter ``gold``."""
    return {name: equal_letter(value, gold) for name, value in letter_readings(text).items()}


GRADERS: Mapping[str, Mapping[str, Grader]] = {
    "number": {"math": grade_number},
    "letter": {"choice": grade_letter},
    "answers": {"math": grade_number, "choice": grade_letter},
}


class AnswerJudge:
    """Labels graded, by the grader of the prompt's kind; a prompt of another kind or without reference is unscored."""

    def __init__(self, name: str, graders: Mapping[str, Grader]) -> None:
        self.name = name
        self.version = "answers-1"
        self.graders = graders

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """One verdict an item, in order."""
        return [self._one(item, part) for item in items]

    def _one(self, item: JudgeItem, part: Part) -> Verdict:
        grader = self.graders.get(item.prompt.kind)
        if grader is None:
            return unscored(item, self.name, part, f"a {item.prompt.kind} prompt has no answer to grade here")
        if item.prompt.reference is None:
            return unscored(item, self.name, part, "the prompt has no reference")
        return Verdict(
            item.sample_id, self.name, part, "graded", correct=grader(item.text(part), item.prompt.reference)
        )
