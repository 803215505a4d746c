"""The page's chapters that not every run has: best of k, rates at like cost, permutations, other protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dalign.report.at_k import CAVEAT as AT_K
from dalign.report.at_k import at_k_tables
from dalign.report.cost import CAVEAT as COST
from dalign.report.cost import UNKNOWN, cost_tables, unknown_sizes
from dalign.report.document import paragraphs, table
from dalign.report.formats import PlainTable
from dalign.report.permutation_tables import CAVEAT as PERMUTATION
from dalign.report.permutation_tables import permutation_tables
from dalign.report.tables import Report
from dalign.report.worth import CAVEAT as PROTOCOLS
from dalign.report.worth import worth_tables


@dataclass(frozen=True)
class Chapter:
    """What to know, and tables: the first ``shown`` of them open, the others to unfold."""

    said: tuple[str, ...]
    tables: Sequence[PlainTable]
    shown: int | None = None

    def html(self) -> list[str]:
        """Everything below the heading."""
        first = self.tables[: self.shown]
        folded = [
            f"<details><summary>{escape(t.title)}</summary>{table(t.head, t.rows, t.text)}</details>"
            for t in self.tables[len(first) :]
        ]
        return [*paragraphs(*self.said), *(t.html("h3") for t in first), *folded]


def further(report: Report) -> dict[str, Chapter]:
    """The chapters that the run has something for, by their keys, in order."""
    unpriced = (UNKNOWN,) if unknown_sizes(report) else ()
    every = {
        "best_of_k": Chapter((AT_K,), at_k_tables(report), 1),
        "cost": Chapter((COST, *unpriced), cost_tables(report), 1),
        "permutation": Chapter((PERMUTATION,), permutation_tables(report)),
        "protocols": Chapter((PROTOCOLS,), worth_tables(report)),
    }
    return {key: chapter for key, chapter in every.items() if chapter.tables or (key == "cost" and unpriced)}
