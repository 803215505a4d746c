"""Bounds of means over groups where few of these have an event, or few rise or few fall (pure functions).

A group's value is an event of a size: values of typical size s in n groups are taken as s times a proportion of n.
Arrays are ``(G, R)`` sums and counts of groups, as ``Groups.sums`` makes them; results ``(R,)``, NaN without a group.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

Floats = NDArray[np.float64]

Z95 = 1.959963984540054
UNSEEN = 0.25  # of an event that fills its group, beside those seen, where the size of a rate's events is told
UNSEEN_CHANGE = 0.5  # of size 1, beside what is seen to rise, or to fall
RARE = 0.25  # of the groups at most: a size is told from few events only where many groups have none


class Part(NamedTuple):
    """What groups have of one kind: its mean, that mean's 95 % bounds, and one group's standard deviation."""

    mean: Floats
    low: Floats
    high: Floats
    deviation: Floats


def wilson(mean: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Wilson's 95 % score interval of a proportion in ``n`` trials (``mean * n`` need not be whole); NaN for n = 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z2 = Z95**2 / n
        centre = (mean + z2 / 2) / (1 + z2)
        half = Z95 / (1 + z2) * np.sqrt(np.maximum(mean * (1 - mean), 0) / n + z2 / (4 * n))
        low, high = np.clip(centre - half, 0, mean), np.clip(centre + half, mean, 1)
        return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def jeffreys(mean: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Jeffreys' 95 % interval of a proportion in ``n`` trials, with the end that is 0 for a mean of 0, and 1 for 1, as
    Brown, Cai and DasGupta (2001) have it; NaN for n = 0."""
    hits, misses = np.maximum(mean * n, 0), np.maximum((1 - mean) * n, 0)
    low = np.where(hits > 0, np.minimum(beta.ppf(0.025, hits + 0.5, misses + 0.5), mean), 0.0)
    high = np.where(misses > 0, np.maximum(beta.ppf(0.975, hits + 0.5, misses + 0.5), mean), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def rate_bounds(total_GR: Floats, count_GR: Floats) -> tuple[Floats, Floats]:
    """95 % bounds of the mean of values in [0, 1]: Wilson's, of events or of what lacks one, whichever is less. Where
    more than a quarter of the groups has one each fills its group: these are too few groups to tell a size."""
    rare = events_are_rarer(total_GR, count_GR)
    rarer_GR = np.where(rare, total_GR, count_GR - total_GR)
    full = full_size(count_GR)
    mean, size, n = _sized(rarer_GR, count_GR, UNSEEN, full)
    size = np.where((rarer_GR > 0).sum(axis=0) <= RARE * n, size, full)
    low, high = (np.minimum(size * end, 1) for end in wilson(mean / size, n))
    return np.where(rare, low, 1 - high), np.where(rare, high, 1 - low)


def events_are_rarer(total_GR: Floats, count_GR: Floats) -> NDArray[np.bool_]:
    """``(R,)`` whether a mean of values in [0, 1] is at most one half."""
    return np.asarray(total_GR.sum(axis=0) <= (count_GR - total_GR).sum(axis=0))


def full_size(count_GR: Floats) -> Floats:
    """``(R,)`` typical size of events that fill their groups, in groups of mean size: 1 where all are equal, else how
    many groups there are for each of Kish's (1965) effective ones, n sum(c^2) / sum(c)^2; NaN without a group."""
    with np.errstate(invalid="ignore"):
        return np.asarray((count_GR > 0).sum(axis=0) * (count_GR**2).sum(axis=0) / count_GR.sum(axis=0) ** 2)


def difference_bounds(total_GR: Floats, count_GR: Floats) -> tuple[Floats, Floats]:
    """95 % bounds of the mean of values in [-1, 1], what rises less what falls: Newcombe's (1998) hybrid of the bounds
    of either, correlated as parts that exclude each other are, with Jeffreys' bounds (Laud 2017)."""
    up, down = (_part(np.maximum(side, 0), count_GR) for side in (total_GR, -total_GR))
    both = up.deviation * down.deviation
    shared = np.divide(up.mean * down.mean, both, out=np.zeros_like(both), where=both > 0)
    mean = up.mean - down.mean
    below = _together(up.mean - up.low, down.high - down.mean, shared)
    above = _together(up.high - up.mean, down.mean - down.low, shared)
    return mean - below, mean + above


def _part(total_GR: Floats, count_GR: Floats) -> Part:
    mean, size, n = _sized(total_GR, count_GR, UNSEEN_CHANGE, np.ones(count_GR.shape[1]))
    share = mean / size
    low, high = jeffreys(share, n)
    return Part(mean, size * low, size * high, size * np.sqrt(np.maximum(share * (1 - share), 0)))


def _sized(total_GR: Floats, count_GR: Floats, unseen: float, full: Floats) -> tuple[Floats, Floats, Floats]:
    """The mean; the size of events of one size that would give it and the mean square, in groups of mean size; and how
    many groups there are. To the events seen ``unseen`` of one of size ``full`` is added."""
    n = (count_GR > 0).sum(axis=0).astype(float)
    with np.errstate(invalid="ignore"):
        value_GR = total_GR * n / count_GR.sum(axis=0)
        mean = value_GR.sum(axis=0) / n
    return mean, ((value_GR**2).sum(axis=0) + unseen * full**2) / (value_GR.sum(axis=0) + unseen * full), n


def _together(one: Floats, other: Floats, correlation: Floats) -> Floats:
    return np.sqrt(one**2 + other**2 + 2 * np.minimum(correlation, 1) * one * other)
