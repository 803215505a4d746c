"""P-values of many comparisons, adjusted: Holm's method for claims, Benjamini and Hochberg's for what is explored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dalign.report.metrics import Floats


def benjamini_hochberg(p_values: Sequence[float]) -> Floats:
    """Adjusted p-values that bound the share of false discoveries, in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(-p, kind="stable")
    rank = len(p) - np.arange(len(p))
    return _placed(order, np.minimum(np.minimum.accumulate(p[order] * len(p) / rank), 1.0))


def holm(p_values: Sequence[float]) -> Floats:
    """Adjusted p-values that bound the chance of any false claim among them (Holm's step-down), in the order given."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    return _placed(order, np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1.0))


def _placed(order: NDArray[np.int64], values: Floats) -> Floats:
    out = np.empty(len(order))
    out[order] = values
    return out
