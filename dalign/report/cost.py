"""What a choice costs, in tokens drawn and floating-point operations, by selector and k; and rates at like cost.

A token costs 2 operations a parameter of every layer that it passes, and of the head where its logits are wanted:
attention over what stands before it is left out. A prompt is passed once for all its samples, in sampling and in
scoring. Scoring counts the passes that the score cannot do without, up to its layer, apart from those of sampling
(``api.best_of`` saves the student's). ``bench/attribution.py`` counts a head as eight layers, which it is in
SmolLM2-135M; here it counts for what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import get_args

from dalign.report.at_k import IN_TABLES, Curve, curve_of
from dalign.report.blocks import Block
from dalign.report.formats import PlainTable
from dalign.report.load import Cell
from dalign.report.rows import Row
from dalign.report.tables import SAFETY, Report, Section, sections, with_interval
from dalign.select import REFUSAL, SELECTORS, band_of
from dalign.sizes import Sizes
from dalign.specs.sampling import LayeredName

CAVEAT = (
    "Tokens: at one k every selector draws the same, but until_safe, which stops early. Operations: 2 a parameter and "
    "token, of sampling and of the passes that a score needs, without attention over the context; a prompt is passed "
    "once for all its samples. What a judge that reranks costs is not known here."
)
UNKNOWN = (
    "Sizes of the model were not recorded with these samples, so operations are unknown; a new run=NAME records them."
)


@dataclass(frozen=True)
class Passes:
    """What a score needs of the two models: how many of them run, whether up to its layer or to the end with a head."""

    models: int
    head: bool = False


NO_PASS = Passes(0)
PASSES: dict[str, Passes] = {
    **dict.fromkeys(get_args(LayeredName), Passes(2)),
    "probe": Passes(1),
    **dict.fromkeys(("kl", "reverse_kl", "logp_ratio"), Passes(2, head=True)),
    **dict.fromkeys(("ppl_student", "ppl_base", "self_certainty", "gini"), Passes(1, head=True)),
    REFUSAL: NO_PASS,
}
ASKS_A_JUDGE = ("until_safe",)  # as the scores of judges that rerank: what the judge costs is not known here


@dataclass(frozen=True)
class Work:
    """Operations for a prompt of which k samples are drawn: ``fixed + k * each``."""

    fixed: float
    each: float

    def at(self, k: int) -> float:
        return self.fixed + k * self.each

    def affords(self, flops: float) -> int:
        """The largest k within ``flops``, 0 where not even one is."""
        return max(floor((flops - self.fixed) / self.each * (1 + 1e-12)), 0)

    def __add__(self, other: Work) -> Work:
        return Work(self.fixed + other.fixed, self.each + other.each)


def sampling(sizes: Sizes, prompt: float, response: float) -> Work:
    """Drawing responses of a mean length to a prompt, both in tokens: the head runs once for the prompt."""
    body = sizes.layers * sizes.layer_parameters
    return Work(2 * (body * prompt + sizes.head_parameters), 2 * (body + sizes.head_parameters) * response)


def scoring(sizes: Sizes, prompt: float, response: float, passes: Passes, layer: int | None) -> Work:
    """Scoring them: the head, where it is needed, runs at the responses' positions alone."""
    layers = sizes.layers if passes.head or layer is None else min(layer, sizes.layers)
    body, head = layers * sizes.layer_parameters, sizes.head_parameters if passes.head else 0
    return Work(2 * passes.models * body * prompt, 2 * passes.models * (body + head) * response)


def needed(selector: str, layer: int | None) -> tuple[Passes | None, int | None]:
    """The passes of a selector, None where they are unknown, and the layer up to which they go: a band's highest."""
    if selector in (*SELECTORS, "mean"):
        return None if selector in ASKS_A_JUDGE else NO_PASS, layer
    score, band = band_of(selector.rpartition("_")[0])
    return PASSES.get(score), layer if band is None else band[1]


def work(cell: Cell, selector: str, layer: int | None) -> Work | None:
    """Of a selector in a cell, by its mean lengths; None where the model's size or what the selector needs is unknown,
    or where responses have no tokens (imported ones)."""
    passes, layer = needed(selector, layer)
    if cell.sizes is None or passes is None or not cell.lengths_PN.any():
        return None
    prompt, response = float(cell.prompt_lengths_P.mean()), float(cell.lengths_PN.mean())
    drawn = sampling(cell.sizes, prompt, response)
    return drawn + scoring(cell.sizes, prompt, response, passes, layer)


def priced(rows: Sequence[Row], block: Block) -> list[Row]:
    """The rows of a block with what they cost a prompt of its cell."""
    response = float(block.cell.lengths_PN.mean())
    out = []
    for row in rows:
        found = None if row.peeks else work(block.cell, row.selector, row.layer)
        drawn = row.k if row.samples_drawn is None else row.samples_drawn
        tokens, flops = drawn * response or None, None if found is None else found.at(row.k)
        out.append(replace(row, tokens=tokens, flops=flops))
    return out


def cost_tables(report: Report) -> list[PlainTable]:
    """By the first safety judge, for every policy with scores and benchmark: each selector at the largest k whose work
    is no more than the headline's at some k. Empty where sizes or lengths are unknown."""
    section = next((s for s in sections(report) if s.metric in SAFETY), None)
    if section is None:
        return []
    return [
        table
        for line in section.lines
        if line.chosen
        for cell in report.run.cells
        if (cell.policy, cell.benchmark) == (line.single.policy, line.single.benchmark)
        for table in _matched(report, section, cell)
    ]


def unknown_sizes(report: Report) -> bool:
    """Whether there are scores of a model whose size nobody wrote down."""
    return any(cell.attributed and cell.sizes is None and cell.lengths_PN.any() for cell in report.run.cells)


def _matched(report: Report, section: Section, cell: Cell) -> Iterator[PlainTable]:
    own = work(cell, report.headline.selector, report.headline.layer)
    if own is None:
        return
    found = curve_of(report, section, cell.policy, cell.benchmark)
    n = cell.lengths_PN.shape[1]
    budgets = [(k, own.at(k)) for k in sorted({k for k in IN_TABLES if k < n} | {n})]
    rows = [
        (name, "–" if layer is None else str(layer), *(_at_cost(curve, cost, flops) for _, flops in budgets))
        for (name, layer), curve in found.items()
        if (cost := work(cell, name, layer)) is not None
    ]
    head = ("selector", "layer", *(f"{flops / 1e9:.3g} GFLOP (headline, k = {k})" for k, flops in budgets))
    title = (
        f"{cell.policy} on {cell.benchmark}: {section.outcomes[0]}, per cent, at the k that like operations pay for "
        f"(prompts of {cell.prompt_lengths_P.mean():.0f} tokens, responses of {cell.lengths_PN.mean():.0f})"
    )
    yield PlainTable(f"cost_{cell.policy}_{cell.benchmark}", title, head, tuple(rows), 1)


def _at_cost(curve: Curve, cost: Work, flops: float) -> str:
    """``12 [8, 18], k = 5``; ``k = 16 of 21`` where more could be paid for than were drawn."""
    affordable = cost.affords(flops)
    k = max((k for k in curve if k <= affordable), default=0)
    if k == 0:
        return "–"
    row = curve[k]
    more = f" of {affordable}" if affordable > max(curve) else ""
    return f"{with_interval(row.value, row.ci_low, row.ci_high)}, k = {k}{more}"
