"""Intervals, p-values and detectable effects of means over prompts that come in groups.

Bootstrap-t over groups (the counts are drawn once and shared by all rows of a table); where few groups have an event,
or few rise or few fall, the bounds of ``few.py``, and Wilson's where there is one verdict a prompt; never an interval
of width zero. All draws come from the given seed. ``campaign/coverage.py`` tries them on simulated runs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dalign.report.few import RARE, difference_bounds, events_are_rarer, rate_bounds, wilson

Floats = NDArray[np.float64]

FEW = 5
FEW_ONE_WAY = 10  # with fewer groups on one side, a bootstrap sees too little of the rarer (coverage.py)
FEW_FAR = 20  # with fewer, a rate's bootstrap-t reaches too far to the other side: resamples without spread stretch it
FEW_CHANGES = 6  # with fewer groups that differ, all to one side, a sign-flip p-value cannot fall below 0.05
MIN_EXPECTED = 10.0
RESAMPLES = 2000
FLIPS = 9999


class Groups:
    """The groups of P prompts and the resamples drawn from them; arrays are ``(R, P)`` with NaN where a row has no
    value for a prompt. A mean is over prompts, its spread over groups."""

    def __init__(self, groups: Sequence[Hashable], seed: Sequence[int]) -> None:
        order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
        self.index_P = np.array([order[g] for g in groups], dtype=np.int64)
        self.n_prompts, self.n_groups = len(groups), len(order)
        self._seed = list(seed)

    @cached_property
    def _counts(self) -> Floats:
        """``(B, G)``: how often each group is drawn in each resample."""
        rng = np.random.default_rng([*self._seed, 0])
        share = np.full(self.n_groups, 1 / self.n_groups)
        return rng.multinomial(self.n_groups, share, size=RESAMPLES).astype(float)

    @cached_property
    def _signs(self) -> NDArray[np.int8]:
        """``(B, G)``: the sign of each group in each permutation."""
        rng = np.random.default_rng([*self._seed, 1])
        return 2 * rng.integers(0, 2, size=(FLIPS, self.n_groups), dtype=np.int8) - 1

    def sums(self, values_RP: Floats) -> tuple[Floats, Floats]:
        """``(G, R)`` sums of the values, and how many values there are, in each group."""
        known = ~np.isnan(values_RP)
        total, count = np.zeros((self.n_groups, len(values_RP))), np.zeros((self.n_groups, len(values_RP)))
        np.add.at(total, self.index_P, np.where(known, values_RP, 0.0).T)
        np.add.at(count, self.index_P, known.T.astype(float))
        return total, count

    def mean(self, values_RP: Floats) -> Floats:
        """``(R,)`` means over the prompts that have a value; NaN where none has."""
        return _ratio(np.nansum(values_RP, axis=1), (~np.isnan(values_RP)).sum(axis=1))

    def standard_error(self, values_RP: Floats) -> Floats:
        """``(R,)`` cluster-robust standard errors of the means (linearised ratio); NaN with fewer than two groups."""
        total, count = self.sums(values_RP)
        return np.sqrt(_variance(_moments(total, count), (count > 0).sum(axis=0)))

    def rate_interval(self, values_RP: Floats) -> tuple[Floats, Floats]:
        """``(R,)`` 95 % bounds of mean rates, values in [0, 1]. Wilson's over groups (``few.rate_bounds``) where fewer
        than 5 groups have an event or lack one, or fewer than 10 and at most a quarter do; of these the end away from
        what is rare, where fewer than 20 do; and over prompts where each has its own group and a plain verdict."""
        total, count = self.sums(values_RP)
        held = count > 0
        n_groups, fewer = held.sum(axis=0), np.minimum((total > 0).sum(axis=0), (held & (total < count)).sum(axis=0))
        rare = fewer <= RARE * n_groups
        near, far = ((fewer < FEW) | ((fewer < least) & rare) for least in (FEW_ONE_WAY, FEW_FAR))
        plain = np.all(np.isnan(values_RP) | (values_RP == 0) | (values_RP == 1), axis=1) & np.all(count <= 1, axis=0)
        low, high = self._bootstrap_t(total, count)
        plain_low, plain_high = wilson(self.mean(values_RP), n_groups.astype(float))
        few_low, few_high = rate_bounds(total, count)
        flat, below = ~(high > low), events_are_rarer(total, count)
        low = np.where(flat | np.where(below, near, far), few_low, np.clip(low, 0, 1))
        high = np.where(flat | np.where(below, far, near), few_high, np.clip(high, 0, 1))
        return np.where(plain, plain_low, low), np.where(plain, plain_high, high)

    def few_expected(self, values_RP: Floats) -> NDArray[np.bool_]:
        """``(R,)`` whether fewer than 5 groups' worth of events is expected, or of the opposite: many groups may then
        have a small chance of one, and a bootstrap of those sees too little."""
        total, count = self.sums(values_RP)
        share = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return np.asarray(np.minimum(share.sum(axis=0), ((count > 0) - share).sum(axis=0)) < FEW)

    def wilson_interval(self, values_RP: Floats) -> tuple[Floats, Floats]:
        """``(R,)`` Wilson's 95 % bounds of mean rates over groups."""
        _, count = self.sums(values_RP)
        return wilson(self.mean(values_RP), (count > 0).sum(axis=0).astype(float))

    def difference_interval(self, values_RP: Floats) -> tuple[Floats, Floats]:
        """``(R,)`` 95 % bounds of mean differences, values in [-1, 1]. Where fewer than 10 groups are above zero, or
        fewer than 10 below, those of ``few.difference_bounds``. Zero lies within where fewer than 6 groups differ: no
        sign-flip p-value could fall below 0.05."""
        total, count = self.sums(values_RP)
        low, high = self._bootstrap_t(total, count)
        few_low, few_high = difference_bounds(total, count)
        replace, unsure = self._few_one_way(values_RP) | ~(high > low), self.few_changes(values_RP)
        low, high = np.where(replace, few_low, low), np.where(replace, few_high, high)
        low, high = np.where(unsure, np.minimum(low, 0), low), np.where(unsure, np.maximum(high, 0), high)
        return np.clip(low, -1, 1), np.clip(high, -1, 1)

    def _few_one_way(self, values_RP: Floats) -> NDArray[np.bool_]:
        """``(R,)`` whether few groups are above zero, or few below."""
        total, _ = self.sums(values_RP)
        return np.asarray(np.minimum((total > 0).sum(axis=0), (total < 0).sum(axis=0)) < FEW_ONE_WAY)

    def few_changes(self, values_RP: Floats) -> NDArray[np.bool_]:
        """``(R,)`` whether so few groups differ from zero that their spread tells nothing."""
        total, _ = self.sums(values_RP)
        return np.asarray((total != 0).sum(axis=0) < FEW_CHANGES)

    def relative_interval(self, values_RP: Floats, baseline_RP: Floats) -> tuple[Floats, Floats]:
        """``(R,)`` 95 % percentile bounds of mean(values) / mean(baseline) - 1 (the same on any scale, the log's too),
        both over the prompts where the two have a value. NaN where the baseline expects fewer than 10 events; where
        fewer than 5 groups have an event of ``values``, or fewer than 10 rise or fall, the difference's bounds over
        the baseline."""
        both = ~np.isnan(values_RP) & ~np.isnan(baseline_RP)
        values, baseline = np.where(both, values_RP, np.nan), np.where(both, baseline_RP, np.nan)
        top, _ = self.sums(values)
        bottom, count = self.sums(baseline)
        base = _ratio(bottom.sum(axis=0), count.sum(axis=0))
        change = _ratio(self._counts @ top, self._counts @ bottom) - 1
        low, high = _bounds(change)
        lower, upper = self.difference_interval(values - baseline)
        few = ((top > 0).sum(axis=0) < FEW) | self._few_one_way(values - baseline) | ~(high > low)
        low, high = np.where(few, _ratio(lower, base), low), np.where(few, _ratio(upper, base), high)
        enough = bottom.sum(axis=0) >= MIN_EXPECTED - 1e-9
        return np.where(enough, np.maximum(low, -1), np.nan), np.where(enough, high, np.nan)

    def sign_flip_p(self, values_RP: Floats) -> Floats:
        """``(R,)`` two-sided p-values of a mean difference of zero: the sums of whole groups change sign at random.
        The smallest possible is 1e-4."""
        total, _ = self.sums(values_RP)
        seen = np.abs(total.sum(axis=0))
        as_far = np.zeros(len(values_RP))
        for start in range(0, FLIPS, 1000):  # in parts: the signs as floats would be eight times as large
            drawn = np.abs(self._signs[start : start + 1000].astype(float) @ total)
            as_far += (drawn >= seen * (1 - 1e-9)).sum(axis=0)
        return np.asarray((1 + as_far) / (FLIPS + 1))

    def _bootstrap_t(self, total: Floats, count: Floats) -> tuple[Floats, Floats]:
        """Studentised bounds of sum(total) / sum(count); a resample without spread counts as infinitely far off."""
        moments = _moments(total, count)
        centre = _ratio(moments[0], moments[1])
        spread = np.sqrt(_variance(moments, (count > 0).sum(axis=0)))
        drawn = [self._counts @ m for m in _products(total, count)]
        offset = _ratio(drawn[0], drawn[1]) - centre
        error = np.sqrt(_variance(drawn, (count > 0).sum(axis=0)))
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(error > 1e-9, offset / error, np.where(np.abs(offset) < 1e-12, 0.0, np.sign(offset) * np.inf))
            low_t, high_t = _bounds(t)
            return centre - high_t * spread, centre - low_t * spread


def _moments(total: Floats, count: Floats) -> list[Floats]:
    return [m.sum(axis=0) for m in _products(total, count)]


def _products(total: Floats, count: Floats) -> list[Floats]:
    return [total, count, total**2, total * count, count**2]


def _variance(moments: Sequence[Floats], n_groups: NDArray[np.int64]) -> Floats:
    """Of the ratio total / count over groups, linearised: sum (t - ratio c)^2 / count^2, times G / (G - 1)."""
    total, count, total2, cross, count2 = moments
    ratio = _ratio(total, count)
    squares = np.maximum(total2 - 2 * ratio * cross + ratio**2 * count2, 0.0)
    return _ratio(squares, count**2) * _ratio(n_groups, n_groups - 1)


def _bounds(drawn_BR: Floats) -> tuple[Floats, Floats]:
    """The 2.5 % and 97.5 % order statistics of each column; NaN (a resample without values) sorts last."""
    ranked = np.sort(drawn_BR, axis=0)
    first = int(0.025 * (len(ranked) + 1)) - 1
    return ranked[first], ranked[len(ranked) - 1 - first]


def _ratio(top: NDArray[np.float64 | np.int64], bottom: NDArray[np.float64 | np.int64]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(np.asarray(bottom) > 0, np.asarray(top) / bottom, np.nan), dtype=float)
