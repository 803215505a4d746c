"""The page's chapters that not every run has: best of k, rates at like cost and equal length, permutations, probes,
what was learnt from verdicts, what RL changed, other protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dalign.report.at_k import CAVEAT as AT_K
from dalign.report.at_k import at_k_tables
from dalign.report.cost import CAVEAT as COST
from dalign.report.cost import UNKNOWN, cost_tables, unknown_sizes
from dalign.report.document import figure, paragraphs, table
from dalign.report.equal_length_tables import CAVEAT as EQUAL_LENGTH
from dalign.report.equal_length_tables import equal_length_tables
from dalign.report.formats import PlainTable
from dalign.report.learnt import learnt
from dalign.report.permutation_tables import CAVEAT as PERMUTATION
from dalign.report.permutation_tables import permutation_tables
from dalign.report.probes import probe_tables
from dalign.report.rl import AFTER
from dalign.report.rl_curves import draw_curves, read_metrics
from dalign.report.rl_tables import CAVEAT as RL
from dalign.report.rl_tables import rl_tables
from dalign.report.rl_words import sentence
from dalign.report.svg import FigureSvg
from dalign.report.tables import Report
from dalign.report.worth import CAVEAT as PROTOCOLS
from dalign.report.worth import worth_tables


@dataclass(frozen=True)
class Chapter:
    """What to know, and tables: the first ``shown`` of them open, the others to unfold. ``below`` stands under the
    tables, one text each, or is empty; ``figures`` end the chapter."""

    said: tuple[str, ...]
    tables: Sequence[PlainTable]
    shown: int | None = None
    below: Sequence[str] = ()
    figures: Sequence[FigureSvg] = ()

    def html(self) -> list[str]:
        """Everything below the heading."""
        first = self.tables[: self.shown]
        folded = [
            f"<details><summary>{escape(t.title)}</summary>{table(t.head, t.rows, t.text)}</details>"
            for t in self.tables[len(first) :]
        ]
        below = self.below or [""] * len(self.tables)
        shown = [part for t, said in zip(first, below, strict=False) for part in (t.html("h3"), *_small(said))]
        return [*paragraphs(*self.said), *shown, *folded, *map(figure, self.figures)]


def _small(said: str) -> list[str]:
    return paragraphs(said, small=True) if said else []


def further(report: Report) -> dict[str, Chapter]:
    """The chapters that the run has something for, by their keys, in order."""
    probes = probe_tables(report.run.folder)
    unpriced = (UNKNOWN,) if unknown_sizes(report) else ()
    every = {
        "best_of_k": Chapter((AT_K,), at_k_tables(report), 1),
        "cost": Chapter((COST, *unpriced), cost_tables(report), 1),
        "equal_length": Chapter((EQUAL_LENGTH,), equal_length_tables(report), 1),
        "permutation": Chapter((PERMUTATION,), permutation_tables(report)),
        "probes": Chapter((), [found for found, _ in probes], below=[said for _, said in probes]),
        **{chapter.key: Chapter((chapter.said,), chapter.tables) for chapter in learnt(report)},
        "rl": _rl(report),
        "protocols": Chapter((PROTOCOLS,), worth_tables(report)),
    }
    return {
        key: chapter
        for key, chapter in every.items()
        if chapter.tables or chapter.figures or (key == "cost" and unpriced)
    }


def _rl(report: Report) -> Chapter:
    """What RL changed, by the rows of both policies and by its own curves; a run may have either alone."""
    drawn = draw_curves(*read_metrics(report.run.folder / AFTER / "metrics.jsonl"))
    said = (sentence(report.changes), RL) if report.changes else ()
    return Chapter(said, rl_tables(report.changes), 2, figures=() if drawn is None else (drawn,))
