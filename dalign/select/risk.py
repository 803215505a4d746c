"""How likely a chosen sample is an event, from its scores and those of its prompt: a logistic fit on other prompts.

Other than the order within a prompt this must hold between prompts, so features are not centred: a prompt whose samples
all look bad is to have none answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dalign.select.calibrate import Place
from dalign.select.combine import TINY, ridge_logistic
from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Floats


@dataclass(frozen=True)
class Risk:
    """P(event) of a sample: ``sigmoid(bias + weights · [z, mean of z over the prompt])``, z the standardised scores."""

    features: tuple[Place, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def read(self, inputs: SelectorInput, eligible_PN: Bools) -> Floats:
        """P(event) in [0, 1] (P, N); NaN for a sample without any score, or one that may not be chosen."""
        values_PND = np.stack([place.read(inputs) for place in self.features], axis=-1)
        some_PN = eligible_PN & ~np.isnan(values_PND).all(axis=-1)
        columns_PND = _columns(values_PND, eligible_PN, np.array(self.mean), np.array(self.scale))
        logit_PN = self.bias + columns_PND @ np.array(self.weights)
        return np.where(some_PN, 1 / (1 + np.exp(-np.clip(logit_PN, -500, 500))), np.nan)


def fit_risk(
    features: Sequence[Place], inputs: SelectorInput, eligible_PN: Bools, event_PN: Bools, known_PN: Bools, *, l2: float
) -> Risk:
    """The risk with the smallest mean logistic loss over samples that are known, each prompt weighing the same, plus
    ``l2 / 2`` times the squared norm of its weights. Without an event, or without anything else, it is constant."""
    usable_PN = eligible_PN & known_PN
    values_PND = np.stack([place.read(inputs) for place in features], axis=-1)
    mean_D, scale_D, live_D = _standard(values_PND[usable_PN])
    x_XD = _columns(values_PND, eligible_PN, mean_D, scale_D)[usable_PN] * np.tile(live_D, 2)
    weight_X = (usable_PN / np.maximum(usable_PN.sum(axis=1, keepdims=True), 1))[usable_PN]
    event_X = event_PN[usable_PN].astype(float)
    with_bias_XD = np.concatenate([x_XD, np.ones((len(x_XD), 1))], axis=1)
    if event_X.any() and not event_X.all():
        fitted_D = ridge_logistic(with_bias_XD, event_X, weight_X, l2, free=x_XD.shape[1])
        weights_D, bias = fitted_D[:-1] * np.tile(live_D, 2), float(fitted_D[-1])
    else:
        weights_D, bias = np.zeros(x_XD.shape[1]), 500.0 if event_X.any() else -500.0
    return Risk(tuple(features), tuple(mean_D.tolist()), tuple(scale_D.tolist()), tuple(weights_D.tolist()), bias)


def _standard(rows_XD: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean and deviation of each column, NaN left out, and 1 where it varies at all, else 0."""
    n_D = np.maximum((~np.isnan(rows_XD)).sum(axis=0), 1)
    mean_D = np.nansum(rows_XD, axis=0) / n_D
    spread_D = np.sqrt(np.nansum((rows_XD - mean_D) ** 2, axis=0) / n_D)
    live_D = spread_D > TINY * np.maximum(np.abs(mean_D), 1.0)
    return mean_D, np.where(live_D, spread_D, 1.0), live_D.astype(float)


def _columns(values_PND: Floats, eligible_PN: Bools, mean_D: Floats, scale_D: Floats) -> Floats:
    """(P, N, 2 D): the standardised scores, a missing one at the mean, and their mean over the prompt's samples."""
    z_PND = np.nan_to_num((values_PND - mean_D) / scale_D)
    count_P = np.maximum(eligible_PN.sum(axis=1), 1)
    of_prompt_PD = np.where(eligible_PN[..., None], z_PND, 0.0).sum(axis=1) / count_P[:, None]
    return np.concatenate([z_PND, np.broadcast_to(of_prompt_PD[:, None], z_PND.shape)], axis=-1)
