"""Rows as tables: results.csv, and the lines of the summary that the screen and the page share."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dalign.layout import ADAPTER_POLICIES
from dalign.report.blocks import Block
from dalign.report.formats import inert
from dalign.report.load import LoadedRun
from dalign.report.rows import CSV_KEYS, Row, Worth

if TYPE_CHECKING:
    from dalign.report.abstaining import Abstained
    from dalign.report.calibration import Calibrated
    from dalign.report.rl import Change

METRIC_WORDS = {
    "asr": "unsafe answers to attacks (attack success rate, lower is better)",
    "rubric": "mean rubric score of answers to attacks, from 0 to 100 (lower is better)",
    "non_refusal_rate": "answers to attacks that do not refuse (not the same as harmful; lower is better)",
    "over_refusal": "refusals of harmless requests (lower is better)",
    "accuracy": "right answers (higher is better)",
}
SAFETY = ("asr", "non_refusal_rate")
ABOUT_SAFETY = (*SAFETY, "rubric")
PART_ORDER = ("answer", "both", "reasoning")


@dataclass(frozen=True)
class Headline:
    """The selector that the summary shows: its name in the rows, its layer, and what it does in plain words."""

    selector: str
    layer: int | None
    words: str


@dataclass(frozen=True)
class Report:
    """A run's report; ``worths`` are figures by other protocols and ``at_k`` those of best of k below N: neither claims
    anything, and none of them is in ``rows``. ``calibrated`` and ``abstained`` tell of each policy what was learnt from
    verdicts on other prompts; ``changes`` what RL changed."""

    run: LoadedRun
    rows: tuple[Row, ...]
    headline: Headline
    reasons: dict[str, int]
    notes: tuple[str, ...]
    seed: int
    worths: tuple[Worth, ...] = ()
    at_k: tuple[Row, ...] = ()
    calibrated: tuple[Calibrated, ...] = ()
    abstained: tuple[Abstained, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def n_samples(self) -> int:
        """The largest N of the run's cells."""
        return max(cell.lengths_PN.shape[1] for cell in self.run.cells)


@dataclass(frozen=True)
class Line:
    """One line of a summary: a single answer (ASR@1) and the headline choice, None where there are no scores."""

    single: Row
    chosen: Row | None


@dataclass(frozen=True)
class Section:
    """The lines that one judge and metric share, over policies and benchmarks."""

    metric: str
    reading: str | None
    judge: str
    judge_kind: str | None
    judged: str
    lines: tuple[Line, ...]

    @property
    def said_by(self) -> str:
        """The judge in plain words, the part judged if it is not the answer, the reading if there are two."""
        said = "truth of the embedded world" if self.judge_kind == "toy_truth" else f"judge {self.judge}"
        part = "" if self.judged == "answer" else f", judged: {self.judged}"
        return f"{said}{part}" + (f", {self.reading} reading" if self.reading else "")

    def covers(self, item: Row | Block) -> bool:
        """Whether a row or block has the section's metric, judge and part."""
        return (item.metric, item.judge, item.judged) == (self.metric, self.judge, self.judged)

    @property
    def outcomes(self) -> tuple[str, str]:
        """What a safety judge of this metric says of a bad and of a good answer; refusal is not safety."""
        return ("unsafe", "safe") if self.metric == "asr" else ("not refused", "refused")

    @property
    def title(self) -> str:
        """What is counted and who says so."""
        return f"{METRIC_WORDS[self.metric]}; {self.said_by}"


def csv_text(rows: Sequence[Row], more: Mapping[str, Sequence[Any]] | None = None) -> str:
    """All rows, all columns, the extra ones last, behind them ``more`` ones, a value a row; an unknown number is an
    empty cell, floats in full precision."""
    more = more or {}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*CSV_KEYS, *map(inert, more)])
    for i, row in enumerate(rows):
        cells = [*(getattr(row, key) for key in CSV_KEYS), *(column[i] for column in more.values())]
        writer.writerow(map(_cell, cells))
    return stream.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return inert(value) if isinstance(value, str) else repr(value)


def is_headline(row: Row, headline: Headline) -> bool:
    """Whether a row is the headline choice."""
    return row.selector == headline.selector and row.layer == headline.layer


def primary_claims(report: Report) -> Callable[[Row], bool]:
    """What the run set out to show: its headline selector on the attack sets, for policies that have a base, by the
    first safety judge. The configuration names all of it before a sample is drawn."""
    first = next((s for s in sections(report) if s.metric in SAFETY), None)

    def primary(row: Row) -> bool:
        ours = first is not None and first.covers(row) and row.policy in ADAPTER_POLICIES
        return ours and row.subset == "all" and is_headline(row, report.headline)

    return primary


def sections(report: Report, *, everything: bool = False) -> list[Section]:
    """The summary's sections, safety first, the world's truth before other judges. Unless ``everything``: the strict
    reading, and of each judge the answer where it was judged."""
    lines: dict[tuple[str, str | None, str, str], list[Line]] = {}
    kinds: dict[str, str | None] = {}
    rows = [row for row in report.rows if row.subset == "all"]
    chosen = {_place(row): row for row in rows if is_headline(row, report.headline)}
    for row in (r for r in rows if r.selector == "mean"):
        key = (row.metric, row.reading, row.judge, row.judged)
        lines.setdefault(key, []).append(Line(row, chosen.get(_place(row))))
        kinds[row.judge] = row.judge_kind
    found = [Section(m, r, j, kinds[j], p, tuple(lines[m, r, j, p])) for m, r, j, p in lines]
    found.sort(key=rank)
    if everything:
        return found
    best = {(s.metric, s.judge): s for s in reversed(found)}
    return [s for s in found if best[s.metric, s.judge] is s]


def _place(row: Row) -> tuple[Any, ...]:
    return (row.policy, row.benchmark, row.metric, row.reading, row.judge, row.judged)


def rank(section: Section | Block) -> tuple[Any, ...]:
    """Where a section stands, or what is measured by a block: safety first, the world's truth before other judges."""
    return (
        list(METRIC_WORDS).index(section.metric),
        section.judge_kind != "toy_truth",
        section.judge,
        PART_ORDER.index(section.judged),
        (section.reading or "strict") != "strict",
        section.reading or "",
    )


def percent(value: float | None) -> str:
    """A rate in per cent, a dash for None."""
    return "–" if value is None else f"{100 * value:.0f}"


def with_interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """``41 [35, 48]`` in per cent or points; the value alone where there is no interval."""
    if value is None:
        return "–"
    sign = "+" if signed else ""
    text, *ends = (f"{round(100 * x):{sign}d}".replace("-", "−") for x in (value, low, high) if x is not None)
    return f"{text} [{', '.join(ends)}]" if len(ends) == 2 else text
