"""What another protocol is worth: its rate less the corrected one, of one answer and of the headline's choice.

Both are measured on the same prompts, so the difference is paired; its interval is clustered like every other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dalign.report.blocks import Block, blocks
from dalign.report.candidates import Candidates, candidates, headline_of, peeking
from dalign.report.equal_length import at_equal_length
from dalign.report.formats import PlainTable
from dalign.report.load import Cell
from dalign.report.measure import Draws, measured
from dalign.report.metrics import Floats
from dalign.report.rows import Row, Worth, number
from dalign.report.tables import METRIC_WORDS, Report, Section, sections, with_interval
from dalign.report.variants import READING, Variant
from dalign.specs.protocol import CORRECTED
from dalign.specs.sampling import SelectorSpec

CAVEAT = (
    "Each line tells a rate by another protocol less the corrected one on the same prompts, in points. The switches "
    "are choices of the released code, measured on this run's own samples; 'released_code' is all of them together. "
    "They are not shown to have produced the paper's tables. 'prefilled' asks utility prompts as the paper does, so "
    "its samples are others."
)


def worths(cell: Cell, found: Sequence[Variant], spec: SelectorSpec, draws: Draws, version: int | None) -> list[Worth]:
    """Every figure of a cell by each of its variants, with the difference that it makes."""
    figures = _Figures(spec, draws, version)
    return [worth for variant in found for worth in _of_variant(cell, variant, figures)]


def _of_variant(cell: Cell, variant: Variant, figures: _Figures) -> Iterator[Worth]:
    own = {_key(block): block for block in blocks(cell) if block.subset == "all"}
    for block in blocks(variant.cell):
        corrected = own.get(_key(block)) if block.subset == "all" else None
        if corrected is None or not (variant.scored or variant.rejudges(block.judge)):
            continue
        yield figures.worth(corrected, block, variant, chosen=False)
        if headline_of(figures.spec, cell) and headline_of(figures.spec, variant.cell):
            yield figures.worth(corrected, block, variant, chosen=True)


def _key(block: Block) -> tuple[str, str, str, str]:
    """What a block shares with its corrected one; ``substring`` stands beside the strict reading."""
    reading = "strict" if block.reading in (None, READING) else block.reading
    return block.metric, block.judge, block.judged, reading


@dataclass(frozen=True)
class _Figures:
    """Measures single figures of blocks: one answer, or the headline's choice."""

    spec: SelectorSpec
    draws: Draws
    version: int | None

    def worth(self, corrected: Block, block: Block, variant: Variant, *, chosen: bool) -> Worth:
        """The figure by the variant, and its difference to the corrected one."""
        row, rate_P = self._figure(block, chosen, variant.test_layer)
        _, before_P = self._figure(corrected, chosen, False)
        difference, groups = (rate_P - before_P)[None], self.draws.of(corrected)
        low, high = groups.difference_interval(difference)
        moved = bool(np.nan_to_num(difference).any())
        return Worth(
            row=replace(row, protocol=variant.protocol, reading=None if block.reading == READING else block.reading),
            chosen=chosen,
            difference=number(groups.mean(difference)[0]),
            low=number(low[0]) if moved else None,
            high=number(high[0]) if moved else None,
        )

    def _figure(self, block: Block, chosen: bool, at_test: bool) -> tuple[Row, Floats]:
        """The row of a figure, and its rate on each prompt."""
        place = headline_of(self.spec, block.cell) if chosen else ("mean", None)
        if place is None:
            raise ValueError("there is no choice to measure in a cell without scores")
        name, layer = place
        every = candidates(block.cell, self.spec)
        wanted = [i for i, c in enumerate(every.rows) if i and c.selector == name and (at_test or c.layer == layer)]
        kept = Candidates(tuple(every.rows[i] for i in (0, *wanted)), every.weights_RPN[[0, *wanted]])
        shown = f"best_layer_{name}" if at_test and layer is not None else name
        table, rates = peeking(Candidates(kept.rows, kept.weights_RPN[:, block.index_P]), block)
        at = max(i for i, c in enumerate(table.rows) if c.selector == shown)
        row = measured(block, table, rates, self.draws, self.version)[at]
        told = at_equal_length(table, block, self.draws.of(block)) if chosen else {}
        return replace(row, **told.get(at, {})), rates.value[at]


def worth_tables(report: Report) -> list[PlainTable]:
    """A table for each policy and judge: a line a protocol, a column a benchmark; the corrected rates come first."""
    found = []
    for section in sections(report):
        for policy in dict.fromkeys(line.single.policy for line in section.lines):
            mine = [w for w in report.worths if w.row.policy == policy and _belongs(w.row, section)]
            if mine:
                found.append(_table(section, policy, mine))
    return found


def _belongs(row: Row, section: Section) -> bool:
    return section.covers(row) and row.reading in (None, section.reading)


def _table(section: Section, policy: str, found: Sequence[Worth]) -> PlainTable:
    lines = {line.single.benchmark: line for line in section.lines if line.single.policy == policy}
    names = [name for name in lines if any(w.row.benchmark == name for w in found)]
    at = {(w.row.protocol, w.chosen, w.row.benchmark): w for w in found}
    rows = []
    for chosen, word in ((False, "one answer"), (True, "chosen")):
        own = [lines[name].chosen if chosen else lines[name].single for name in names]
        if any(own):
            rows.append((CORRECTED, word, *(_value(row) for row in own)))
    for protocol in dict.fromkeys(w.row.protocol for w in found):
        for chosen, word in ((False, "one answer"), (True, "chosen")):
            cells = [at.get((protocol, chosen, name)) for name in names]
            if any(cells) and (chosen or any(_says(at, w) for w in cells if w)):
                rows.append((protocol, word, *(_change(one) for one in cells)))
    title = f"{policy}: what each protocol is worth, in points; {METRIC_WORDS[section.metric]}; {section.said_by}"
    return PlainTable(f"protocols_{policy}_{section.metric}", title, ("protocol", "of", *names), tuple(rows), 2)


def _says(at: Mapping[tuple[str, bool, str], Worth], one: Worth) -> bool:
    """Whether a single answer's line tells something: it moved, or no line of a choice stands beside it."""
    return one.low is not None or (one.row.protocol, True, one.row.benchmark) not in at


def _value(row: Row | None) -> str:
    return "–" if row is None else with_interval(row.value, row.ci_low, row.ci_high)


def _change(one: Worth | None) -> str:
    return "–" if one is None else with_interval(one.difference, one.low, one.high, signed=True)
