"""Grades utility answers by substring, as the released code does, to measure what that is worth; pure functions.

Gold ``8`` accepts ``18``, and the text of the right choice counts wherever it stands, also in "not Paris".
"""

from __future__ import annotations

from collections.abc import Sequence

from dalign.judge.base import JudgeItem, unscored
from dalign.prompts.mmlu import choices
from dalign.records import Part, Prompt, Verdict

READING = "substring"


def gold_text(prompt: Prompt) -> str | None:
    """What must occur in an answer: the gold number, or the text of the gold choice; None where there is none."""
    if prompt.kind == "choice" and prompt.reference is not None:
        return choices(prompt.text).get(prompt.reference.upper())
    return prompt.reference


class SubstringJudge:
    """Labels graded, with the one reading ``substring``; its verdicts take the name of the judge it replaces.

    Whatever part is asked about, the reasoning counts too: "anywhere" is anywhere in the response.
    """

    version = "substring-1"

    def __init__(self, name: str) -> None:
        self.name = name

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """One verdict an item, in order."""
        return [self._one(item, part) for item in items]

    def _one(self, item: JudgeItem, part: Part) -> Verdict:
        gold = gold_text(item.prompt)
        if gold is None:
            return unscored(item, self.name, part, "the prompt tells no reference, or not what its choices say")
        right = gold.casefold() in item.text("both").casefold()
        return Verdict(item.sample_id, self.name, part, "graded", correct={READING: right})
