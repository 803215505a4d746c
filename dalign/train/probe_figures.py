"""What a set of probes is worth, as numbers of JSON: each out of fold, at a layer that no test label chose."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalign.report.intervals import Groups
from dalign.report.metrics import Bools, Floats, pooled_auroc
from dalign.report.rows import number
from dalign.report.separation import calibration_error, hits_at, length_matched, prompt_aurocs
from dalign.train.probe import FittedProbe, Probe
from dalign.train.rows import Rows


class Scale:
    """What every probe of a set is measured on: its labelled rows, and which of them are matched by length."""

    def __init__(self, rows: Rows, *, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.labelled_X: Bools = ~np.isnan(rows.labels_X)
        self.unsafe_X: Bools = rows.labels_X == 1
        self.matched_X = self._matched(["all"] * len(rows))
        self.matched_within_X = self._matched(rows.prompts)

    def _matched(self, strata: list[str] | tuple[str, ...]) -> Bools:
        own = np.flatnonzero(self.labelled_X)
        kept = np.zeros(len(self.rows), dtype=bool)
        rng = np.random.default_rng([self.seed, 0])
        kept[own] = length_matched(self.rows.lengths[own], self.unsafe_X[own], [strata[i] for i in own], rng=rng)
        return kept

    def facts(self) -> dict[str, int]:
        """How many samples and pairs the figures are over."""
        rows = np.flatnonzero(self.labelled_X)
        with_both = prompt_aurocs(np.zeros(len(rows)), self.unsafe_X[rows], [self.rows.prompts[i] for i in rows])
        return {
            "unsafe": int((self.labelled_X & self.unsafe_X).sum()),
            "safe": int((self.labelled_X & ~self.unsafe_X).sum()),
            "prompts_with_both": len(with_both),
            "pairs_of_equal_length": int(self.matched_X.sum()) // 2,
            "pairs_of_equal_length_within": int(self.matched_within_X.sum()) // 2,
        }

    def figures(self, p_X: Floats, *, probability: bool = True) -> dict[str, Any]:
        """All figures of one column of P(unsafe), NaN where a row has none; null where one cannot be told. A score that
        is no ``probability`` has no calibration."""
        known = self.labelled_X & ~np.isnan(p_X)
        p, unsafe = p_X[known], self.unsafe_X[known]
        within, low, high = self._within(p_X, known)
        return {
            "auroc_within": within,
            "auroc_within_ci_low": low,
            "auroc_within_ci_high": high,
            "auroc_pooled": self.pooled(p_X),
            "tpr_at_1_fpr": hits_at(p, unsafe),
            "ece": calibration_error(p, unsafe) if probability else None,
            "auroc_matched": self.pooled(p_X, self.matched_X),
            "auroc_within_matched": self._within(p_X, known & self.matched_within_X)[0],
        }

    def within(self, p_X: Floats) -> float | None:
        """The mean over prompts of the AUROC among their samples."""
        return self._within(p_X, self.labelled_X & ~np.isnan(p_X))[0]

    def pooled(self, p_X: Floats, of: Bools | None = None) -> float | None:
        """The AUROC over all samples, or those ``of`` a subset."""
        known = self.labelled_X & ~np.isnan(p_X) & (True if of is None else of)
        return pooled_auroc(p_X[None], self.unsafe_X[None], known[None])

    def _within(self, p_X: Floats, known: Bools) -> tuple[float | None, float | None, float | None]:
        """The mean over prompts, with its 95 % interval clustered by group."""
        rows = np.flatnonzero(known)
        prompts = [self.rows.prompts[i] for i in rows]
        found = prompt_aurocs(p_X[rows], self.unsafe_X[rows], prompts)
        if not found:
            return None, None, None
        group_of = dict(zip(prompts, (self.rows.groups[i] for i in rows), strict=True))
        groups = Groups([group_of[str(prompt)] for prompt in found], [self.seed])
        values = np.array([list(found.values())])
        low, high = groups.rate_interval(values)
        return float(values.mean()), number(low[0]), number(high[0])


def probe_entry(
    name: str, fitted: FittedProbe, left_out_XL: Floats | None, scale: Scale, *, layer: int
) -> dict[str, Any]:
    """One probe's entry of the table: its figures at ``layer``, and at the layer that each fold takes from the other
    folds; the AUROC at every layer; and without each benchmark, beside the same rows out of fold."""
    known = isinstance(fitted.probe, Probe)
    # As selectors get them: equals in all but rounding tie.
    oof_XL = fitted.unsafe_XL.astype(np.float32).astype(np.float64)
    chosen_X, layers = other_folds(oof_XL, fitted.fold_X, scale)
    return {
        "name": name,
        "layer": layer,
        "figures": scale.figures(oof_XL[:, layer], probability=known),
        "other_folds": {"layers": layers, "figures": scale.figures(chosen_X, probability=known)},
        "auroc_within": [scale.within(p_X) for p_X in oof_XL.T],
        "auroc_pooled": [scale.pooled(p_X) for p_X in oof_XL.T],
        "left_out": {} if left_out_XL is None else _left_out(oof_XL[:, layer], left_out_XL[:, layer], scale),
        "unconverged_layers": fitted.unconverged_layers,
    }


def other_folds(oof_XL: Floats, fold_X: NDArray[np.int64], scale: Scale) -> tuple[Floats, list[int]]:
    """P(unsafe) of each row at the layer that separates best, within prompts, what lies outside the row's fold; and
    each fold's layer. The embeddings (layer 0) are a choice like any other."""
    out_X, layers = np.full(len(scale.rows), np.nan), list[int]()
    for fold in range(int(fold_X.max()) + 1):
        own = fold_X == fold
        seen_XL = np.where(own[:, None], np.nan, oof_XL)
        worth = [scale.within(p_X) or 0.0 for p_X in seen_XL.T]
        layers.append(int(np.argmax(worth)))
        out_X[own] = oof_XL[own, layers[-1]]
    return out_X, layers


def _left_out(oof_X: Floats, left_X: Floats, scale: Scale) -> dict[str, Any]:
    benchmark_X = np.array(scale.rows.benchmarks)
    found = {}
    for name in dict.fromkeys(scale.rows.benchmarks):
        oof, left = (np.where(benchmark_X == name, p_X, np.nan) for p_X in (oof_X, left_X))
        if not np.isnan(left).all():
            both = {"within": scale.within(left), "pooled": scale.pooled(left)}
            found[name] = {**both, "oof_within": scale.within(oof), "oof_pooled": scale.pooled(oof)}
    return found
