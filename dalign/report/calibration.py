"""What was chosen on other folds, how much of the honest gain that has, and what it is worth on other benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dalign.report.blocks import Block, blocks
from dalign.report.calibrated import ANY, COMBINATION, Calibration, Chooser, Method, choice
from dalign.report.candidates import selector_input
from dalign.report.formats import PlainTable
from dalign.report.measure import Draws
from dalign.report.metrics import Floats, choice_rates
from dalign.report.optimism import GOAL, Goal, Part, goals
from dalign.report.tables import SAFETY, Section, percent, rank
from dalign.select.calibrate import Place
from dalign.select.combine import Combination

CAVEAT = (
    "Every prompt is chosen for by a fit that saw no verdict of its group (layer_chosen_on = other_folds), and no fit "
    "saw a verdict of a judge that is for reports alone. Optimism is what the best layer on the test labels looks too "
    "good by. The ratio is (fixed layer - ours) / (fixed layer - best layer, its optimism taken off), over all "
    f"attacks; the goal is {GOAL}, at no loss of utility: see the same selectors on the other benchmarks. The margin "
    f"is fixed - ours less {GOAL} of what is possible: above zero where the goal is met."
)
TOP = 3  # weights of a combination that are told


@dataclass(frozen=True)
class Calibrated:
    """What the calibration of a policy gave: the chosen places or weights a fold (the last is by all prompts), the goal
    of each method, and for each method the rate on a benchmark (second index) when chosen on another (first index)."""

    policy: str
    judge: str
    said_by: str
    benchmarks: tuple[str, ...]
    chosen: dict[str, tuple[Chooser, ...]]
    goals: dict[str, Goal]
    transfer: dict[str, tuple[tuple[float | None, ...], ...]]
    fixed: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON types; a choice is its place, or its features with their weights."""
        chosen = {name: [asdict(one) for one in found] for name, found in self.chosen.items()}
        goals = {name: asdict(one) for name, one in self.goals.items()}
        return {**asdict(self), "chosen": chosen, "goals": goals}

    def tables(self) -> list[PlainTable]:
        """What was chosen, the goal, and the transfer matrices."""
        goals, transfer = [self._goals()] if self.goals else [], [self._transfer()] if self.transfer else []
        return [self._chosen(), *goals, *transfer]

    def _chosen(self) -> PlainTable:
        folds = len(next(iter(self.chosen.values()))) - 1
        head = ("selector", *(f"fold {i + 1}" for i in range(folds)), "all prompts")
        rows = [(name, *map(_words, found)) for name, found in self.chosen.items()]
        title = f"{self.policy}: chosen on the other folds, by verdicts of {self.judge}"
        return PlainTable(f"chosen_{self.policy}", title, head, tuple(rows), len(head))

    def _goals(self) -> PlainTable:
        head = ("selector", "fixed layer", "ours", "best layer", "optimism", "corrected", "ratio", "margin")
        rows = []
        for name, one in self.goals.items():
            rates = (one.fixed, one.ours, one.best, one.optimism, one.best + one.optimism)
            ratio = "–" if one.ratio is None else _interval(*one.ratio, digits=2, scale=1)
            margin = _interval(*one.margin, digits=1, scale=100)
            rows.append((name, *(f"{100 * x:.1f}" for x in rates), ratio, margin))
        title = f"{self.policy}: the goal, over all attacks in per cent and points; {self.said_by}"
        return PlainTable(f"goal_{self.policy}", title, head, tuple(rows), 1)

    def _transfer(self) -> PlainTable:
        head = ("selector", "chosen on", *self.benchmarks)
        rows = [("fixed layer", "–", *map(percent, self.fixed))]
        for name, matrix in self.transfer.items():
            for source, rates in zip((*self.benchmarks, "all"), matrix, strict=True):
                rows.append((name, source, *map(percent, rates)))
        title = f"{self.policy}: chosen on one benchmark, used on another, always out of fold; per cent; {self.said_by}"
        return PlainTable(f"transfer_{self.policy}", title, head, tuple(rows), 2)


def calibrated(found: Calibration, draws: Draws, seed: int) -> Calibrated:
    """The account of a policy's calibration, rates by the first safety judge of its attacks."""
    blocks_of = attack_blocks(found)
    fixed = _fixed(found)
    methods, parts = goal_parts(found, draws)
    told = goals(parts, seed) if parts else []
    return Calibrated(
        found.policy,
        found.judge,
        next((_section(block).said_by for block in blocks_of), ""),
        tuple(block.cell.benchmark for block in blocks_of),
        {method.name: (*method.of_fold, method.whole) for method in found.methods},
        dict(zip((method.name for method in methods), told, strict=bool(parts))),
        {name: _transfer(found, name, blocks_of) for name in _ours(found)} if blocks_of else {},
        tuple(_mean(_rate(found, block, fixed)) if fixed in found.places else None for block in blocks_of),
    )


def attack_blocks(found: Calibration) -> list[Block]:
    """The attacks on a policy, as their first safety judge sees them, the one that its report puts first."""
    mine = [b for cell in found.pool.cells for b in blocks(cell) if b.metric in SAFETY and b.subset == "all"]
    first = min(mine, key=rank, default=None)
    return [block for block in mine if first is not None and _section(first).covers(block)]


def _section(block: Block) -> Section:
    return Section(block.metric, block.reading, block.judge, block.judge_kind, block.judged, ())


def goal_parts(found: Calibration, draws: Draws) -> tuple[list[Method], list[Part]]:
    """What the goal is worked out from: our methods, and their rates on each benchmark of attacks; none where the
    headline has no layers."""
    fixed = _fixed(found)
    if fixed not in found.places:
        return [], []
    layers = [place for place in found.places if place.selector == fixed.selector]
    methods = [method for method in found.methods if method.name in _ours(found)]
    parts = [
        Part(
            _rate(found, block, fixed),
            np.stack([_rate_of(found.weights(method, block.cell), block) for method in methods]),
            np.stack([_rate(found, block, place) for place in layers]),
            draws.of(block),
        )
        for block in attack_blocks(found)
    ]
    return methods, parts


def _fixed(found: Calibration) -> Place:
    """The headline, at the layer that needs no verdict."""
    return Place(found.headline.score, found.headline.direction, found.fixed_layer)


def _ours(found: Calibration) -> list[str]:
    """The methods that are compared with the headline: its own layer, any place, the combination."""
    fixed = _fixed(found)
    return [*([f"calibrated_{fixed.selector}"] if fixed in found.places else []), ANY, COMBINATION]


def _rate(found: Calibration, block: Block, chooser: Chooser) -> Floats:
    """The rate of a choice on each prompt of a block."""
    return _rate_of(choice(chooser, selector_input(block.cell), found.require_finished), block)


def _rate_of(weights_PN: Floats, block: Block) -> Floats:
    return choice_rates(weights_PN[None, block.index_P], block.amount_PN, block.scored_PN).value[0]


def _transfer(found: Calibration, name: str, blocks_of: Sequence[Block]) -> tuple[tuple[float | None, ...], ...]:
    """Rates on each benchmark (second index) of what was chosen on each, then on all, always on other folds."""
    fit = found.fit_combination if name == COMBINATION else lambda of_P: found.fit_place(of_P, _selector(name))
    cells = [found.pool.cell_index(block.cell) for block in blocks_of]
    sources = [found.pool.cell_P == cell for cell in cells] + [np.isin(found.pool.cell_P, cells)]
    out = []
    for source in sources:
        choosers = [fit(source & (found.folds != fold)) for fold in range(found.spec.folds)]
        out.append(tuple(_mean(_by_fold(found, block, choosers)) for block in blocks_of))
    return tuple(out)


def _by_fold(found: Calibration, block: Block, choosers: Sequence[Chooser]) -> Floats:
    fold_P = np.array([found.fold_of.get(block.cell.prompts[i].group, 0) for i in block.index_P])
    rates = np.stack([_rate(found, block, chooser) for chooser in choosers])
    return np.asarray(rates[fold_P, np.arange(len(fold_P))])


def _selector(name: str) -> str | None:
    return None if name == ANY else name.removeprefix("calibrated_")


def _mean(rate_P: Floats) -> float | None:
    known = rate_P[~np.isnan(rate_P)]
    return float(known.mean()) if len(known) else None


def _words(chooser: Chooser) -> str:
    if isinstance(chooser, Combination):
        most = sorted(zip(chooser.weights, chooser.features, strict=True), key=lambda pair: -abs(pair[0]))[:TOP]
        return ", ".join(f"{weight:+.2f} {_at(place.score, place.layer)}" for weight, place in most)
    return _at(chooser.selector, chooser.layer)


def _at(name: str, layer: int | None) -> str:
    return name if layer is None else f"{name} @{layer}"


def _interval(value: float, low: float | None, high: float | None, *, digits: int, scale: float) -> str:
    ends = "" if low is None or high is None else f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    return f"{scale * value:.{digits}f}{ends}".replace("-", "−")
