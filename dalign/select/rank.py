"""Weights over samples from a score a sample: the extreme one takes all, equal ones share (pure functions)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Direction = Literal["argmin", "argmax"]


def uniform_weights(eligible_PN: Bools) -> Floats:
    """Equal weights (P, N) over each prompt's eligible samples; a row of zeros where there is none."""
    chances = eligible_PN.astype(np.float64)
    return chances / np.maximum(chances.sum(-1, keepdims=True), 1.0)


def arg_weights(scores_PN: Floats, eligible_PN: Bools, direction: Direction) -> Floats:
    """Weights (P, N) on the eligible samples of smallest (largest) score, shared equally among equals.

    A NaN score is no score, and its sample not eligible. A row sums to 1, or to 0 where nothing is eligible. If all
    scores of a row are equal, the row is ``uniform_weights``: so the placebo is random selection, exactly.
    """
    if direction not in ("argmin", "argmax"):
        raise ValueError(f"direction {direction!r}, must be argmin or argmax")
    scored = eligible_PN & ~np.isnan(scores_PN)
    sign = 1.0 if direction == "argmin" else -1.0
    costs = np.where(scored, sign * scores_PN, np.inf)
    return uniform_weights(scored & (costs == costs.min(-1, keepdims=True)))
