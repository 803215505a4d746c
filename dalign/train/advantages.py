"""From rewards to advantages: each sample against the others of its group (GRPO, arXiv 2402.03300)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

EPSILON = 1e-4  # beside the spread, as in TRL
CONSTANT = 1e-6  # a spread below this is rounding: dividing by it made advantages of thousands elsewhere


@dataclass(frozen=True)
class Advantages:
    """``values``: one a sample, 0 where it has no reward. ``known``: which have one. ``dead``: for each group, whether
    it has nothing to say: all its rewards equal, or fewer than two of them."""

    values: tuple[float, ...]
    known: tuple[bool, ...]
    dead: tuple[bool, ...]


def total_rewards(parts: Mapping[str, Sequence[float | None]], weights: Mapping[str, float]) -> list[float | None]:
    """The weighted sums of named rewards, a sample each. A reward of None adds nothing; None where all are.

    Raises ``ValueError`` for a reward that is not finite, and for rewards of different numbers of samples.
    """
    out: list[float | None] = []
    for row in zip(*parts.values(), strict=True):
        found = [(weights[name], value) for name, value in zip(parts, row, strict=True) if value is not None]
        if bad := [value for _, value in found if not math.isfinite(value)]:
            raise ValueError(f"a reward of {bad[0]}; one that cannot be told is None")
        out.append(math.fsum(weight * value for weight, value in found) if found else None)
    return out


def group_advantages(
    rewards: Sequence[float | None], group: int, *, scale: Literal["group", "batch", "none"] = "group"
) -> Advantages:
    """Rewards minus the mean of their group, ``group`` samples next to each other.

    ``scale`` divides by the standard deviation (ddof 1) of the group, of the whole batch, or not. A sample without
    reward is in no mean and has advantage 0. Raises ``ValueError`` unless the groups are whole.
    """
    if group < 2 or len(rewards) % group:
        raise ValueError(f"{len(rewards)} rewards are no whole groups of {group}")
    reward_GN = np.array([math.nan if r is None else r for r in rewards], dtype=np.float64).reshape(-1, group)
    known_GN = ~np.isnan(reward_GN)
    count_G = known_GN.sum(axis=1)
    filled_GN = np.where(known_GN, reward_GN, 0.0)
    mean_G = filled_GN.sum(axis=1) / np.maximum(count_G, 1)
    away_GN = np.where(known_GN, reward_GN - mean_G[:, None], 0.0)
    spread_G = np.sqrt((away_GN**2).sum(axis=1) / np.maximum(count_G - 1, 1))
    dead_G = (count_G < 2) | (spread_G < CONSTANT)
    divisor_G = np.ones_like(spread_G)
    if scale == "group":
        divisor_G = spread_G + EPSILON
    elif scale == "batch":
        known = reward_GN[known_GN]
        divisor_G[:] = (known.std(ddof=1) if len(known) > 1 else 0.0) + EPSILON
    value_GN = np.where(dead_G[:, None], 0.0, away_GN / divisor_G[:, None])
    return Advantages(tuple(value_GN.ravel().tolist()), tuple(known_GN.ravel().tolist()), tuple(dead_G.tolist()))
