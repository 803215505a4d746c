"""Every way out of the filter, by hand: the reason stays with the trace, and the counts add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dalign.errors import ConfigError
from dalign.judge import JudgeItem
from dalign.judge.base import Screened, harm_verdict, labelled
from dalign.records import Part, Trace, Verdict
from dalign.specs.stage import FilterSpec
from dalign.traces import filter_traces, summarise

GOOD = Trace("p0", "may i knit ?", ("benign",), "no law", "yes", "toy", "stop")
SPEC = FilterSpec(max_p_unsafe=0.5, min_reasoning_chars=3, max_chars=20)


class Guard:
    """P(unsafe) is read off the answer's last word, where it is a number; it remembers the pairs it saw."""

    name, version = "guard", "1"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        self.seen += [(i.prompt.text, i.text(part)) for i in items]
        return [harm_verdict(i, self.name, part, float(i.answer.split()[-1]), 0.5) for i in items]


def trace(answer: str = "yes", **fields: object) -> Trace:
    return replace(GOOD, answer=answer, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trace(), ""),
        (trace(finish_reason="length"), "truncated"),
        (trace(finish_reason="overlong", answer="", reasoning=""), "prompt fills the context"),
        (trace(answer=" "), "empty answer"),
        (trace(reasoning="ab "), "reasoning too short"),
        (trace(answer="x" * 14), ""),
        (trace(answer="x" * 15), "too long"),
        (trace(dropped="unclosed"), "unclosed"),
    ],
)
def test_form_and_length_without_a_judge(row: Trace, reason: str) -> None:
    (found,) = filter_traces([row], SPEC, None)
    assert found == replace(row, dropped=reason)


def test_only_well_formed_traces_are_judged_each_with_its_question() -> None:
    guard = Guard()
    rows = [
        trace("is 0.2"),
        trace("is 0.9", finish_reason="length"),
        trace("is 0.7", question="what else ?"),
        trace("is 0.5"),
    ]
    found = filter_traces(rows, SPEC, Screened(guard))
    assert [(t.dropped, t.p_unsafe) for t in found] == [("", 0.2), ("truncated", None), ("unsafe", 0.7), ("", 0.5)]
    assert guard.seen == [("may i knit ?", "is 0.2"), ("what else ?", "is 0.7"), ("may i knit ?", "is 0.5")]
    assert [t.answer for t in found] == [t.answer for t in rows]


def test_threshold_is_the_filters() -> None:
    strict = SPEC.model_copy(update={"max_p_unsafe": 0.1})
    assert filter_traces([trace("is 0.2")], strict, Guard())[0].dropped == "unsafe"


def test_unscored_is_not_kept_as_safe() -> None:
    (found,) = filter_traces([trace("is nan")], SPEC, Guard())
    assert found.dropped == "unscored: verdict off the menu: P(unsafe) = nan"


def test_judge_of_refusals_cannot_filter() -> None:
    class Refusals(Guard):
        def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
            return [labelled(i, "phrases", part, "refused") for i in items]

    with pytest.raises(ConfigError, match=r"judges\.harm=phrases: says refused.*stage\.filter\.judge=false"):
        filter_traces([GOOD], SPEC, Refusals())


def test_verdicts_of_other_traces_are_refused() -> None:
    class Swapping(Guard):
        def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
            return super().judge(items, part)[::-1]

    with pytest.raises(ValueError, match="was asked"):
        filter_traces([trace("is 0.1"), trace("is 0.2")], SPEC, Swapping())


def test_summary_counts_each_reason_and_category() -> None:
    two = ("Self-Harm", "benign")
    rows = [
        trace(),
        trace(categories=two),
        trace(categories=two, dropped="unsafe"),
        trace(categories=(), dropped="too long"),
    ]
    assert summarise(rows) == {
        "rows": 4,
        "kept": 2,
        "dropped": 2,
        "reasons": {"too long": 1, "unsafe": 1},
        "categories": {
            "(none)": {"too long": 1},
            "Self-Harm": {"kept": 1, "unsafe": 1},
            "benign": {"kept": 2, "unsafe": 1},
        },
    }
