"""One score out of many: a logistic order of the samples within a prompt, fitted on the events of other prompts.

Each prompt is its own comparison (pairs of an event and a non-event sample of it), so differences between prompts,
which a selector cannot use, do not enter. Pure functions; arrays as in ``dalign.select.calibrate``, ``_D`` features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dalign.select.calibrate import Place
from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Floats, arg_weights
from dalign.select.selectors import computed_layers

MAX_PAIRS = 64  # of a prompt, evenly: with large N pairs grow as its square and say little more
TINY = 1e-9


@dataclass(frozen=True)
class Combination:
    """Weights over scores, each centred within its prompt and divided by ``scale``; small sums are safe ones."""

    features: tuple[Place, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]

    def read(self, inputs: SelectorInput, eligible_PN: Bools) -> Floats:
        """The combined score (P, N), higher for likelier events; NaN for a sample without any score."""
        values_PND = centred(self.features, inputs, eligible_PN)
        some_PN = ~np.isnan(values_PND).all(axis=-1)
        combined_PN = np.nan_to_num(values_PND / np.array(self.scale)) @ np.array(self.weights)
        return np.where(some_PN, combined_PN, np.nan)

    def choose(self, inputs: SelectorInput, eligible_PN: Bools) -> Floats:
        """Weights over samples (P, N): the lowest combined score takes all."""
        return arg_weights(np.round(self.read(inputs, eligible_PN), 12), eligible_PN, "argmin")


def all_features(inputs: SelectorInput) -> tuple[Place, ...]:
    """Every score at every layer, once; the sign of its weight is its direction."""
    return tuple(Place(name, "argmin", x) for name, values in inputs.scores.items() for x in computed_layers(values))


def centred(features: Sequence[Place], inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """Each feature less its mean over the prompt's eligible samples (P, N, D); NaN stays."""
    values_PND = np.stack([place.read(inputs) for place in features], axis=-1)
    known_PND = eligible_PN[..., None] & ~np.isnan(values_PND)
    count_PD = known_PND.sum(axis=1, keepdims=True)
    mean_PD = np.where(known_PND, values_PND, 0.0).sum(axis=1, keepdims=True) / np.maximum(count_PD, 1)
    return np.asarray(values_PND - mean_PD)


def fit_combination(
    features: Sequence[Place], inputs: SelectorInput, eligible_PN: Bools, event_PN: Bools, known_PN: Bools, *, l2: float
) -> Combination:
    """The combination with the smallest mean logistic loss over pairs (an event and a non-event sample of one prompt)
    plus ``l2 / 2`` times the squared norm of its weights: a convex stand-in for the event rate of best of 2.

    A feature that is constant within prompts gets weight 0; so does every one where no prompt has both outcomes.
    """
    values_PND = np.where(eligible_PN[..., None], centred(features, inputs, eligible_PN), np.nan)
    scale_D, live_D = _spread(values_PND, np.stack([place.read(inputs) for place in features], axis=-1))
    scaled_PND = np.nan_to_num(values_PND / scale_D) * live_D
    gaps_XD, weight_X = _pairs(scaled_PND, eligible_PN & known_PN, event_PN)
    weights_D = np.zeros(len(features))
    if len(gaps_XD):
        weights_D = ridge_logistic(gaps_XD, np.ones(len(gaps_XD)), weight_X, l2) * live_D
    return Combination(tuple(features), tuple(scale_D.tolist()), tuple(weights_D.tolist()))


def _spread(centred_PND: Floats, raw_PND: Floats) -> tuple[Floats, Floats]:
    """The deviation of each feature within prompts, and 1 where there is any beyond rounding, else 0."""
    known_PND = ~np.isnan(centred_PND)
    n_D = np.maximum(known_PND.sum(axis=(0, 1)), 1)
    spread_D = np.sqrt(np.where(known_PND, centred_PND**2, 0.0).sum(axis=(0, 1)) / n_D)
    size_D = np.abs(np.nan_to_num(raw_PND)).max(axis=(0, 1), initial=1.0)
    live_D = spread_D > TINY * size_D
    return np.where(live_D, spread_D, 1.0), live_D.astype(float)


def _pairs(scaled_PND: Floats, usable_PN: Bools, event_PN: Bools) -> tuple[Floats, Floats]:
    """(X, D) event less non-event of each pair, and what each pair weighs."""
    gaps, weights = [np.empty((0, scaled_PND.shape[-1]))], [np.empty(0)]
    for values_ND, usable_N, event_N in zip(scaled_PND, usable_PN, event_PN, strict=True):
        bad, good = np.flatnonzero(usable_N & event_N), np.flatnonzero(usable_N & ~event_N)
        n = len(bad) * len(good)
        if n == 0:
            continue
        taken: NDArray[np.int64] = np.unique(np.linspace(0, n - 1, min(n, MAX_PAIRS)).round().astype(np.int64))
        gaps.append(values_ND[bad[taken // len(good)]] - values_ND[good[taken % len(good)]])
        weights.append(np.full(len(taken), n / len(taken)))
    return np.concatenate(gaps), np.concatenate(weights)


def ridge_logistic(
    x_XD: Floats, y_X: Floats, weight_X: Floats, l2: float, *, free: int | None = None, steps: int = 100
) -> Floats:
    """The weights (D,) that minimise the weighted mean of log(1 + exp(-s x·w)), s = 2 y - 1, plus l2 / 2 |w|²; Newton's
    method with halved steps. Column ``free`` (an intercept) is not penalised."""
    share_X = weight_X / weight_X.sum()
    sign_X = 2 * y_X - 1
    penalty_D = np.full(x_XD.shape[1], float(l2))
    if free is not None:
        penalty_D[free] = TINY

    def loss(w_D: Floats) -> float:
        return float(share_X @ np.logaddexp(0, -sign_X * (x_XD @ w_D)) + 0.5 * penalty_D @ w_D**2)

    w_D = np.zeros(x_XD.shape[1])
    for _ in range(steps):
        p_X = 1 / (1 + np.exp(sign_X * np.clip(x_XD @ w_D, -500, 500)))
        gradient_D = -x_XD.T @ (share_X * sign_X * p_X) + penalty_D * w_D
        if np.abs(gradient_D).max(initial=0.0) < 1e-9:
            break
        hessian_DD = x_XD.T @ (x_XD * (share_X * p_X * (1 - p_X))[:, None]) + np.diag(penalty_D + TINY)
        step_D, size, before = np.linalg.solve(hessian_DD, gradient_D), 1.0, loss(w_D)
        while size > 1e-6 and loss(w_D - size * step_D) > before - 1e-4 * size * float(gradient_D @ step_D):
            size /= 2
        w_D = w_D - size * step_D
    return w_D
