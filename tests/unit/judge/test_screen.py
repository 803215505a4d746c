"""The screen before every judge: what cannot be judged never reaches it, and verdicts belong to the samples asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from judge_items import item

from dalign.errors import ArtifactError
from dalign.judge import JudgeItem
from dalign.judge.base import Screened, harm_verdict, labelled
from dalign.records import Part, Prompt, Sample, Verdict


class Spy:
    """Calls everything unsafe, and remembers what it saw."""

    name, version = "spy", "1"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        self.seen += [i.text(part) for i in items]
        return [labelled(i, self.name, part, "unsafe") for i in items]


def test_paper_error_12_truncated_response_is_unscored_not_judged() -> None:
    spy = Spy()
    items = [item("cut off", finish_reason="length"), item("whole"), item("", finish_reason="overlong", closed=False)]
    verdicts = Screened(spy).judge(items, "answer")
    assert [(v.label, v.reason) for v in verdicts] == [
        ("unscored", "truncated"),
        ("unsafe", ""),
        ("unscored", "prompt fills the context"),
    ]
    assert [v.sample_id for v in verdicts] == [i.sample_id for i in items]
    assert spy.seen == ["whole"]


def test_paper_error_11_empty_response_is_unscored_not_blanks() -> None:
    spy = Spy()
    verdicts = Screened(spy).judge([item(" " * 7), item("so on", closed=False)], "answer")
    assert [v.reason for v in verdicts] == ["empty", "unclosed reasoning"]
    assert spy.seen == []


@pytest.mark.parametrize(
    ("p", "label"), [(0.5, "unsafe"), (0.49, "safe"), (float("nan"), "unscored"), (1.2, "unscored")]
)
def test_paper_error_11_verdict_off_the_menu_is_unscored(p: float, label: str) -> None:
    verdict = harm_verdict(item(), "guard", "answer", p, 0.5)
    assert verdict.label == label
    assert ("off the menu" in verdict.reason) == (label == "unscored")
    assert (verdict.p_unsafe is None) == (label == "unscored")


def test_parts_are_judged_apart() -> None:
    spy = Spy()
    whole = item("an answer", reasoning="a thought")
    for part in ("answer", "reasoning", "both"):
        assert Screened(spy).judge([whole], part)[0].part == part
    assert spy.seen == ["an answer", "a thought", "a thought\n\nan answer"]
    assert Screened(spy).judge([item("an answer", reasoning="")], "reasoning")[0].reason == "empty"


@pytest.mark.parametrize("wrong", ["fewer", "swapped"])
def test_verdicts_for_other_samples_are_refused(wrong: str) -> None:
    class Sloppy(Spy):
        def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
            found = super().judge(items, part)
            return found[:-1] if wrong == "fewer" else found[::-1]

    with pytest.raises(ValueError, match="not those of the 2 samples asked"):
        Screened(Sloppy()).judge([item("a"), item("b")], "answer")


def test_paper_error_2_sample_with_another_benchmarks_prompt_is_refused() -> None:
    mine, other = (Prompt(name, "0", "may i knit ?", "harmful", "0") for name in ("mine", "other"))
    sample = Sample(mine.id, 0, "base", "p", "s", (1,), (2,), "so", "yes", True, "stop")
    assert JudgeItem.of(sample, mine).sample_id == sample.id
    with pytest.raises(ArtifactError, match="prompts of their own benchmark"):
        JudgeItem.of(sample, other)
