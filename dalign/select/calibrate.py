"""Chooses the score, its end and its layer from the events of other prompts, never of those that it will choose for.

An event is what a selector is to avoid, as found beforehand for the samples of the prompts that are fitted on. Pure
functions over arrays: ``_C`` places (a score's end at a layer), ``_P`` prompts, ``_N`` samples of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Direction, Floats, arg_weights
from dalign.select.selectors import computed_layers

Statistic = Literal["pairs", "chosen"]


@dataclass(frozen=True)
class Place:
    """Where a selector reads: one end of a score, at a layer where it has any."""

    score: str
    direction: Direction
    layer: int | None = None

    @property
    def selector(self) -> str:
        """The selector's name, whatever its layer."""
        return f"{self.score}_{self.direction}"

    def read(self, inputs: SelectorInput) -> Floats:
        """The score there (P, N), small where the selector wants it."""
        values = inputs.scores[self.score]
        at_layer = values if self.layer is None else values[..., self.layer]
        return at_layer if self.direction == "argmin" else -at_layer

    def weights(self, inputs: SelectorInput, eligible_PN: Bools) -> Floats:
        """The selector's weights over samples (P, N)."""
        return arg_weights(self.read(inputs), eligible_PN, "argmin")


def places(inputs: SelectorInput) -> tuple[Place, ...]:
    """Every place that has a score: both ends, each computed layer."""
    return tuple(
        Place(name, direction, layer)
        for name, values in inputs.scores.items()
        for direction in get_args(Direction)
        for layer in computed_layers(values)
    )


def event_rates(
    found: Sequence[Place],
    inputs: SelectorInput,
    eligible_PN: Bools,
    event_PN: Bools,
    known_PN: Bools,
    statistic: Statistic,
) -> Floats:
    """(C, P) how often each place's selector would meet an event; NaN where nothing eligible is known.

    ``chosen``: of the one it takes among all N. ``pairs``: of the better one of two samples, over all pairs, which is
    best of 2 and, between prompts of mixed outcome, one less the AUROC within the prompt. It uses every sample where
    ``chosen`` uses one, so it varies less; it is about the order as a whole where ``chosen`` is about the very end.
    """
    usable_PN = eligible_PN & known_PN
    rate = _of_pairs if statistic == "pairs" else _of_chosen
    return np.stack([rate(place.read(inputs), usable_PN, event_PN) for place in found])


def _of_chosen(scores_PN: Floats, usable_PN: Bools, event_PN: Bools) -> Floats:
    weights_PN = arg_weights(scores_PN, usable_PN, "argmin")
    chosen_P = weights_PN.sum(axis=1) > 0
    return np.where(chosen_P, (weights_PN * event_PN).sum(axis=1), np.nan)


def _of_pairs(scores_PN: Floats, usable_PN: Bools, event_PN: Bools) -> Floats:
    """A sample without a score loses every pair; of two equals either is taken half of the time."""
    cost_PN = np.where(np.isnan(scores_PN), np.inf, scores_PN)
    one, other = np.triu_indices(scores_PN.shape[1], k=1)
    both_PX = usable_PN[:, one] & usable_PN[:, other]
    first_PX, second_PX = cost_PN[:, one], cost_PN[:, other]
    takes_first_PX = np.where(first_PX < second_PX, 1.0, np.where(first_PX == second_PX, 0.5, 0.0))
    event_PX = takes_first_PX * event_PN[:, one] + (1 - takes_first_PX) * event_PN[:, other]
    n_pairs_P = both_PX.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate_P = np.where(both_PX, event_PX, 0.0).sum(axis=1) / n_pairs_P
    return np.where(n_pairs_P > 0, rate_P, _of_chosen(scores_PN, usable_PN, event_PN))


def best_place(found: Sequence[Place], rates_CP: Floats, *, fixed: int | None = None, smooth: bool = True) -> int:
    """The index of the place with the lowest mean rate over prompts; ``fixed`` wins ties, then the first.

    ``smooth`` averages each layer's rate with its neighbours' (1, 2, 1), the placebo layer 0 apart: neighbouring layers
    agree, their errors less so.
    """
    known_CP = ~np.isnan(rates_CP)
    total_C, count_C = np.where(known_CP, rates_CP, 0.0).sum(axis=1), known_CP.sum(axis=1)
    mean_C = np.where(count_C > 0, total_C / np.maximum(count_C, 1), 1.0)
    cost_C = _smoothed(found, mean_C) if smooth else mean_C
    tied = np.flatnonzero(cost_C <= cost_C.min() + 1e-12)
    return int(fixed) if fixed is not None and fixed in tied else int(tied[0])


def _smoothed(found: Sequence[Place], mean_C: Floats) -> Floats:
    out = mean_C.copy()
    of: dict[tuple[str, Direction], list[int]] = {}
    for i, place in enumerate(found):
        if place.layer:
            of.setdefault((place.score, place.direction), []).append(i)
    for members in of.values():
        index: NDArray[np.int64] = np.array(sorted(members, key=lambda i: found[i].layer or 0))
        padded = np.pad(mean_C[index], 1, mode="edge")
        out[index] = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return out
