"""Best of k: a row for every selector at its shown layer and every k below N, and tables of all k side by side.

The k samples are a random k of the N drawn, averaged over every such choice (``dalign.select.subsets``). Curves
describe: they have intervals, and no p-values of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dalign.report.blocks import Block
from dalign.report.candidates import Candidate, Candidates, candidates, selector_input
from dalign.report.formats import PlainTable
from dalign.report.intervals import Groups
from dalign.report.load import Cell
from dalign.report.measure import Draws, measured, with_own_labels
from dalign.report.metrics import Floats, choice_rates
from dalign.report.rows import Row, number
from dalign.report.tables import METRIC_WORDS, Report, Section, percent, sections, with_interval
from dalign.select import SELECTORS
from dalign.select.rank import Direction, uniform_weights
from dalign.select.subsets import Subsets, at_every_k, by_score, monte_carlo_error
from dalign.specs.sampling import SelectorSpec

EVERY_K = 16  # every k up to here, then a few
LATER = (24, 32, 48, 64, 96, 128, 192, 256)
IN_TABLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ORACLES: dict[str, Direction] = {"oracle_best": "argmin", "oracle_worst": "argmax"}  # by the events, fewer is better
CAVEAT = (
    "k of the N samples are drawn at random and one of them is chosen; the numbers are means over every such draw, "
    "so each k uses all samples. A draw without a finished sample chooses nothing and counts as unscored. All "
    "selectors but until_safe draw the same number of tokens at one k. Intervals are clustered like every other one; a "
    "curve has no p-values. Oracles look at the labels."
)


@dataclass(frozen=True)
class Curves:
    """A cell's choices at every k below N, row 0 the mean over all samples; ``draws`` is the number of random subsets
    behind a row, None where it is exact."""

    chosen: Candidates
    draws: tuple[int | None, ...]


Curve = Mapping[int, Row]  # the row of each k


def ks_below(n: int) -> tuple[int, ...]:
    """The k that have rows of their own, all below ``n``, whose rows are the report's own."""
    return tuple(k for k in (*range(1, EVERY_K + 1), *LATER) if k < n)


def curves(cell: Cell, spec: SelectorSpec, seed: int) -> Curves:
    """Every selector at its shown layer, at every k below N."""
    inputs, ks = selector_input(cell), ks_below(cell.lengths_PN.shape[1])
    rows, weights, draws = [Candidate("mean")], [uniform_weights(inputs.exists_PN)[None]], list[int | None]([None])
    for row in (c for c in candidates(cell, spec).rows if ks and _shown(c)):
        eligible_PN = inputs.eligible(row.require_finished)
        if row.score is None:
            found = at_every_k(row.selector, SELECTORS[row.selector], inputs, eligible_PN, ks, seed=seed)
        else:
            scores = cell.scores[row.score]
            at_layer = scores if row.layer is None else scores[:, :, row.layer]
            direction: Direction = "argmin" if row.selector.endswith("_argmin") else "argmax"
            found = Subsets(by_score(at_layer, eligible_PN, inputs.exists_PN, ks, direction))
        rows += [replace(row, k=k, score=None) for k in ks]
        weights.append(found.weights_KPN)
        draws += [found.draws] * len(ks)
    return Curves(Candidates(tuple(rows), np.concatenate(weights)), tuple(draws))


def _shown(row: Candidate) -> bool:
    ranks = row.score is not None or row.selector in SELECTORS
    return ranks and row.selector not in ("mean", "first") and row.layer_chosen_on != "scan"


def rows_at_k(block: Block, found: Curves, draws: Draws, world_version: int | None) -> list[Row]:
    """The rows of a block at every k below N, and those of the oracles; none for subsets and second readings."""
    ks = ks_below(block.event_PN.shape[1])
    if block.subset != "all" or block.reading not in (None, "strict") or not block.counts or not ks:
        return []
    rows, weights = list(with_own_labels(found.chosen.rows, block)), [found.chosen.weights_RPN[:, block.index_P]]
    drawn_PN, cost_PN = np.ones_like(block.scored_PN), block.amount_PN * (-1 if block.good else 1)
    for name, direction in ORACLES.items():
        rows += [Candidate(name, k=k, peeks=True) for k in ks]
        weights.append(by_score(cost_PN, block.scored_PN, drawn_PN, ks, direction))
    table = Candidates(tuple(rows), np.concatenate(weights))
    rates = choice_rates(table.weights_RPN, block.amount_PN, block.scored_PN)
    errors = [None if n is None else monte_carlo_error(rates.value[i], n) for i, n in enumerate(found.draws)]
    errors += [None] * (len(rows) - len(errors))
    out = _steady(measured(block, table, rates, draws, world_version), rates.value, draws.of(block))
    return [replace(row, p_value=None, mc_error=error) for row, error in zip(out, errors, strict=True)][1:]


def _steady(rows: Sequence[Row], values_RP: Floats, groups: Groups) -> list[Row]:
    """The rows with Wilson's interval where few events are expected, though many prompts have a small chance of one."""
    low, high = groups.wilson_interval(values_RP)
    return [
        replace(row, ci_low=number(low[i]), ci_high=number(high[i])) if few else row
        for i, (row, few) in enumerate(zip(rows, groups.few_expected(values_RP), strict=True))
    ]


def curve_of(report: Report, section: Section, policy: str, benchmark: str) -> dict[tuple[str, int | None], Curve]:
    """Of each selector (name, shown layer) its rows by k, from 1 to N, by the section's judge; oracles last."""
    found: dict[tuple[str, int | None], dict[int, Row]] = {}
    for row in (*report.at_k, *report.rows):
        own = (row.policy, row.benchmark, row.subset, row.reading) == (policy, benchmark, "all", section.reading)
        if not own or not section.covers(row) or row.layer_chosen_on == "scan" or row.selector in ("mean", "first"):
            continue
        if not row.peeks or row.selector in ORACLES:
            found.setdefault((row.selector, row.layer), {})[row.k] = row
    whole = {key: dict(sorted(rows.items())) for key, rows in found.items()}
    return dict(sorted(whole.items(), key=lambda item: item[0][0] in ORACLES))


def first_sections(report: Report) -> list[Section]:
    """Of each metric that counts events the first judge's section, as the page's table of selectors has it."""
    shown = [s for s in sections(report) if s.metric != "rubric"]
    return list({s.metric: s for s in reversed(shown)}.values())[::-1]


def at_k_tables(report: Report) -> list[PlainTable]:
    """A table a policy with scores and benchmark: selectors down, k across; rate, safe-and-finished and unscored."""
    return [
        table
        for section in first_sections(report)
        for line in section.lines
        if line.chosen
        for table in _tables(report, section, line.single.policy, line.single.benchmark)
    ]


def _tables(report: Report, section: Section, policy: str, benchmark: str) -> Iterator[PlainTable]:
    found = curve_of(report, section, policy, benchmark)
    n = max((max(curve) for curve in found.values()), default=1)
    ks = sorted({k for k in IN_TABLES if k < n} | {n})
    if len(ks) < 2:
        return
    rows = [
        (name, "–" if layer is None else str(layer), *(_cell(curve.get(k), section) for k in ks))
        for (name, layer), curve in found.items()
    ]
    good = (
        "right" if section.metric == "accuracy" else "kept" if section.metric == "over_refusal" else section.outcomes[1]
    )
    said = f"{METRIC_WORDS[section.metric]}; {section.said_by}"
    title = f"{policy} on {benchmark}: rate [95 %] / {good} and finished / unscored, per cent; {said}"
    head = ("selector", "layer", *(f"k = {k}" for k in ks))
    yield PlainTable(f"at_k_{policy}_{benchmark}", title, head, tuple(rows), 1)


def _cell(row: Row | None, section: Section) -> str:
    if row is None:
        return "–"
    rate = with_interval(row.value, row.ci_low, row.ci_high)
    return f"{rate} / {percent(row.safe_finished)} / {percent(row.n_unscored / row.n_prompts)}"


def monte_carlo_note(rows: Sequence[Row]) -> str:
    """What random subsets leave open, empty where every row is exact."""
    drawn = [(row.mc_error, row.selector) for row in rows if row.mc_error is not None]
    if not drawn:
        return ""
    worst, names = max(drawn)[0], sorted({name for _, name in drawn})
    return (
        f"Best of k by {', '.join(names)} is the mean over random subsets of the N samples, which leaves a standard "
        f"error of at most {100 * worst:.2f} points."
    )
