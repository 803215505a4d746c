"""Tables of choices at equal length: what is left of each selector's change, and whether it follows the length."""

from __future__ import annotations

from collections.abc import Iterator

from dalign.report.at_k import first_sections
from dalign.report.formats import PlainTable
from dalign.report.rows import Row
from dalign.report.tables import METRIC_WORDS, Report, Section, percent, with_interval

CAVEAT = (
    "Changes are in points. 'At equal length' is the chosen sample less the mean of its siblings, other finished "
    "samples of the same prompt whose tokens differ from its own by at most 10 %, on the prompts where the choice has "
    "such siblings. 'There' is the change against one answer of those very choices, so that the two columns differ in "
    "the comparison alone. What 'longest' and 'shortest' still change at equal length is what 10 % leaves open. The "
    "last columns are the share of prompts whose choice is one of the longest (shortest) finished samples, and what a "
    "choice at random would give; equal scores share a choice. Intervals are clustered like every other one; there are "
    "no p-values. A small gap at equal length shows no absence of an effect: few prompts have siblings to compare. "
    "Oracles and best layers look at the labels; lines of a protocol are the headline's choice by it."
)
ENDS = ("chosen_longest", "chosen_shortest")
HEAD = (
    "selector",
    "layer",
    "change",
    "there",
    "at equal length",
    "prompts",
    "longest / by chance",
    "shortest / by chance",
)


def equal_length_tables(report: Report) -> list[PlainTable]:
    """A table a policy with scores and benchmark, by the first judge of each metric."""
    return [
        PlainTable(f"equal_length_{policy}_{benchmark}_{section.metric}", title, HEAD, found, 1)
        for section in first_sections(report)
        for policy, benchmark in ((line.single.policy, line.single.benchmark) for line in section.lines if line.chosen)
        if (found := tuple(_lines(report, section, policy, benchmark)))
        for title in [f"{policy} on {benchmark}: {METRIC_WORDS[section.metric]}; {section.said_by}"]
    ]


def _lines(report: Report, section: Section, policy: str, benchmark: str) -> Iterator[tuple[str, ...]]:
    def own(row: Row) -> bool:
        here = (row.policy, row.benchmark, row.subset) == (policy, benchmark, "all") and section.covers(row)
        return here and row.equal_length_prompts is not None

    for row in report.rows:
        if own(row) and row.reading == section.reading:
            yield _line(row.selector, row)
    for worth in report.worths:
        if own(worth.row) and worth.row.reading in (None, section.reading):
            yield _line(f"{worth.row.selector}, {worth.row.protocol}", worth.row)


def _line(name: str, row: Row) -> tuple[str, ...]:
    return (
        name,
        "–" if row.layer is None else str(row.layer),
        _interval(row, "difference", signed=True),
        _interval(row, "equal_length_plain", signed=True),
        _interval(row, "equal_length_difference", signed=True),
        str(row.equal_length_prompts),
        *(f"{_interval(row, end)} / {percent(getattr(row, f'{end}_by_chance'))}" for end in ENDS),
    )


def _interval(row: Row, name: str, *, signed: bool = False) -> str:
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    return with_interval(value, low, high, signed=signed)
