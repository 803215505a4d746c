"""Figures of several runs as one: means over runs with Student's t over them (pure functions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student_t

from dalign.report.intervals import Floats

SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)
POWER = 0.8


class Told(NamedTuple):
    """A run's figure and its 95 % bounds, None where it has none."""

    value: float
    low: float | None
    high: float | None


def mean_interval(told: Sequence[Told], limits: tuple[float, float]) -> tuple[float | None, float | None, float | None]:
    """The mean of runs' figures and its 95 % bounds within ``limits``: at each end the farther one of Student's t over
    the figures and of the runs' own half-widths taken together, root of the sum of squares over R. No bounds where no
    run has any, as of one and the same choice, or where a single run has the figure."""
    if not told:
        return None, None, None
    values = np.array([one.value for one in told])
    mean = float(values.mean())
    known = [
        (one.value - one.low, one.high - one.value) for one in told if one.low is not None and one.high is not None
    ]
    if len(told) < 2 or not known:
        return mean, None, None
    half = _quantile(0.975, len(told)) * _standard_error(values)
    below, above = (float(x) for x in np.sqrt((np.array(known) ** 2).sum(axis=0)) / len(told))
    return mean, max(mean - max(half, below), limits[0]), min(mean + max(half, above), limits[1])


def paired_t(gaps: Floats) -> tuple[float, float]:
    """The two-sided p-value of a mean of zero over runs, and the smallest true mean that a 5 % test finds with 80 %
    power. ``gaps`` (R,) are not all equal."""
    error, n = _standard_error(gaps), len(gaps)
    p_value = 2 * student_t.sf(abs(gaps.mean()) / error, n - 1)
    return float(p_value), float((_quantile(0.975, n) + _quantile(POWER, n)) * error)


def ratio_interval(gaps: Floats, baseline: Floats) -> tuple[float, float, float]:
    """mean(gaps) / mean(baseline), a relative change, and its linearised 95 % bounds, at least -1; ``(R,)`` each."""
    ratio = float(gaps.mean() / baseline.mean())
    half = _quantile(0.975, len(gaps)) * _standard_error(gaps - ratio * baseline) / float(baseline.mean())
    return ratio, max(ratio - half, -1.0), ratio + half


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _quantile(share: float, runs: int) -> float:
    return float(student_t.ppf(share, runs - 1))
