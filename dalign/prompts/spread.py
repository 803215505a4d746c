"""Takes ``limit`` rows of many: evenly spaced, in equal shares of each stratum, the same ones every time.

No seed enters: a limited run reads the same rows on every machine, and the subsets stay balanced.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(rows: Sequence[T], limit: int | None, strata: Sequence[Hashable]) -> tuple[T, ...]:
    """``limit`` of ``rows`` (all for None or a larger limit), in their order; ``strata`` holds one value a row.

    Strata get equal shares, as far as they have rows; within one the rows lie evenly spaced.
    """
    if limit is None or limit >= len(rows):
        return tuple(rows)
    members: dict[Hashable, list[int]] = {}
    for i, stratum in zip(range(len(rows)), strata, strict=True):
        members.setdefault(stratum, []).append(i)
    taken: list[int] = []
    for indices, share in zip(members.values(), shares([len(m) for m in members.values()], limit), strict=True):
        taken += [indices[i] for i in evenly(len(indices), share)]
    return tuple(rows[i] for i in sorted(taken))


def evenly(count: int, share: int) -> list[int]:
    """``share`` positions below ``count``, each in the middle of its equal stretch: 2 of 10 are 2 and 7."""
    return [(2 * i + 1) * count // (2 * share) for i in range(share)]


def shares(sizes: Sequence[int], limit: int) -> list[int]:
    """How many rows each stratum gives: equal where it has them, the rest to strata spread over the order.

    The sum is ``limit``, which must not exceed that of ``sizes``.
    """
    given = [0] * len(sizes)
    left = limit
    while left:
        open_ = [i for i, size in enumerate(sizes) if given[i] < size]
        each = min(left // len(open_), min(sizes[i] - given[i] for i in open_))
        chosen = open_ if each else [open_[i] for i in evenly(len(open_), left)]
        for i in chosen:
            given[i] += max(each, 1)
            left -= max(each, 1)
    return given
