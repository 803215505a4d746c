"""Selectors that learn from verdicts on other prompts: each prompt's choice is by a fit that saw nothing of its group.

Folds are by group over all attack sets of a policy together. Prompts of other sets (tasks, harmless requests) that
share no group with an attack are chosen for by the fit on all attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dalign.report.candidates import Candidate, Candidates, selector_input
from dalign.report.load import Cell
from dalign.report.metrics import Bools, Floats
from dalign.report.pool import Pool, pool_of, teaching_judge
from dalign.select import SelectorInput, auto_layer
from dalign.select.calibrate import Place, best_place, event_rates, places
from dalign.select.combine import Combination, all_features, fit_combination
from dalign.specs.calibrate import CalibrateSpec
from dalign.specs.sampling import SelectorSpec
from dalign.train.folds import group_folds

OTHER_FOLDS = "other_folds"
ANY, COMBINATION = "calibrated_any", "calibrated_combination"
Chooser = Place | Combination


@dataclass(frozen=True)
class Method:
    """A calibrated selector: what it chooses by for the prompts of each fold, and for those of none (``whole``)."""

    name: str
    of_fold: tuple[Chooser, ...]
    whole: Chooser


@dataclass(frozen=True)
class Calibration:
    """What was fitted for a policy. ``fold_of`` tells the fold of each group with an attack; ``headline`` names the
    selector and the layer that win ties."""

    pool: Pool
    judge: str
    spec: CalibrateSpec
    headline: SelectorSpec
    fold_of: dict[str, int]

    @property
    def require_finished(self) -> bool:
        return self.headline.require_finished

    @property
    def fixed_layer(self) -> int | None:
        """The layer that needs no verdict: the one that is named, or the rule's."""
        depth = next((v.shape[2] - 1 for v in self.pool.inputs.scores.values() if v.ndim == 3), None)
        if depth is None:
            return None
        return self.headline.layer if isinstance(self.headline.layer, int) else auto_layer(depth)

    @property
    def policy(self) -> str:
        return self.pool.cells[0].policy

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return places(self.pool.inputs)

    @cached_property
    def rates(self) -> Floats:
        """What places are chosen by, (C, P) over the pool; NaN for prompts without a verdict."""
        pool = self.pool
        eligible = pool.inputs.eligible(self.require_finished)
        return event_rates(self.places, pool.inputs, eligible, pool.event_PN, pool.known_PN, self.spec.statistic)

    @cached_property
    def folds(self) -> NDArray[np.int64]:
        """The fold of each prompt of the pool, -1 for those that share no group with an attack."""
        return np.array([self.fold_of.get(group, -1) for group in self.pool.groups], dtype=np.int64)

    @cached_property
    def methods(self) -> tuple[Method, ...]:
        """Every calibrated selector: the layer of each layered selector, any place, the combination."""
        layered = dict.fromkeys(p.selector for p in self.places if p.layer is not None)
        named: list[tuple[str, Callable[[Bools], Chooser]]] = [
            *((f"calibrated_{name}", lambda of_P, name=name: self.fit_place(of_P, name)) for name in layered),
            (ANY, self.fit_place),
            (COMBINATION, self.fit_combination),
        ]
        return tuple(
            Method(name, tuple(fit(self.folds != f) for f in range(self.spec.folds)), fit(self.folds >= -1))
            for name, fit in named
        )

    def fit_place(self, of_P: Bools, selector: str | None = None) -> Place:
        """The place chosen on some prompts of the pool, of the attacks among them; of one selector or of all."""
        members = self.pool.taught & of_P
        among = [i for i, p in enumerate(self.places) if selector in (None, p.selector)]
        found = [self.places[i] for i in among]
        default = selector or f"{self.headline.score}_{self.headline.direction}"
        plain = [i for i, p in enumerate(found) if p.selector == default and p.layer in (None, self.fixed_layer)]
        fixed = plain[0] if plain else None
        return found[best_place(found, self.rates[among][:, members], fixed=fixed, smooth=self.spec.smooth)]

    def fit_combination(self, of_P: Bools) -> Combination:
        """The combination fitted on the attacks among some prompts of the pool."""
        some = self.pool.rows(self.pool.taught & of_P)
        eligible = some.inputs.eligible(self.require_finished)
        features = all_features(self.pool.inputs)
        return fit_combination(features, some.inputs, eligible, some.event_PN, some.known_PN, l2=self.spec.l2)

    def weights(self, method: Method, cell: Cell) -> Floats:
        """The choice of a method among a cell's samples (P, N), each prompt by the fit that did not see its group."""
        inputs = selector_input(cell)
        out = choice(method.whole, inputs, self.require_finished)
        fold_P = np.array([self.fold_of.get(p.group, -1) for p in cell.prompts])
        for fold, chooser in enumerate(method.of_fold):
            rows = fold_P == fold
            out[rows] = choice(chooser, inputs, self.require_finished)[rows]
        return out

    def rows(self, cell: Cell) -> Iterator[tuple[Candidate, Floats]]:
        """A row of the report a method, with its weights on a cell of this policy."""
        n = cell.lengths_PN.shape[1]
        for method in self.methods:
            candidate = Candidate(method.name, None, OTHER_FOLDS, n, None, self.require_finished)
            yield candidate, self.weights(method, cell)


def choice(chooser: Chooser, inputs: SelectorInput, require_finished: bool) -> Floats:
    """Weights over samples (P, N)."""
    eligible = inputs.eligible(require_finished)
    return chooser.choose(inputs, eligible) if isinstance(chooser, Combination) else chooser.weights(inputs, eligible)


def calibrations(
    cells: Sequence[Cell], headline: SelectorSpec, spec: CalibrateSpec, seed: int
) -> tuple[dict[str, Calibration], list[str]]:
    """The calibration of each policy that has scores, and notes on why one has none."""
    out, notes = dict[str, Calibration](), list[str]()
    for policy in dict.fromkeys(cell.policy for cell in cells if cell.attributed):
        mine = [cell for cell in cells if cell.policy == policy]
        judge, why = teaching_judge(mine, spec.judge)
        pool = pool_of(mine, judge) if judge is not None else None
        if judge is None or pool is None:
            notes += [f"No calibrated selectors: {why}."] if why else []
            continue
        groups = sorted({g for g, taught in zip(pool.groups, pool.taught, strict=True) if taught})
        if len(groups) < spec.folds:
            few = f"No calibrated selectors for {policy}: {len(groups)} groups of attacks have a verdict of {judge}, "
            notes += [f"{few}fewer than report.calibrate.folds={spec.folds}."] if groups else []
            continue
        found = [g for g, harmful in zip(pool.groups, pool.harmful, strict=True) if harmful]
        folds = group_folds(found, spec.folds, seed=seed)
        fold_of = dict(zip(found, folds.tolist(), strict=True))
        out[policy] = Calibration(pool, judge, spec, headline, fold_of)
    return out, notes


def extended(chosen: Candidates, found: Calibration | None, cell: Cell) -> Candidates:
    """A cell's table of choices with the calibrated ones below it."""
    more = list(found.rows(cell)) if found is not None and cell.attributed else []
    if not more:
        return chosen
    rows, weights = zip(*more, strict=True)
    return Candidates((*chosen.rows, *rows), np.concatenate([chosen.weights_RPN, np.stack(weights)]))
