"""What choosing a layer on the test labels makes too good, and how much of the honest gain a selector without them has.

Rates are ``(R, P)`` over prompts, NaN where a prompt has none; groups of prompts are resampled. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dalign.report.intervals import Floats, Groups

GOAL = 0.25
OUTER, INNER = 400, 50


@dataclass(frozen=True)
class Part:
    """One benchmark: rates ``(P,)`` of the fixed layer, ``(M, P)`` of our methods, ``(L, P)`` of every layer."""

    fixed_P: Floats
    ours_MP: Floats
    layers_LP: Floats
    groups: Groups


@dataclass(frozen=True)
class Goal:
    """Means over all prompts of the parts. ``best`` is the best layer on the test labels as it looks, ``optimism`` what
    that makes it look too good by, ``gained`` is fixed - ours, ``possible`` is fixed - (best + optimism). ``ratio`` is
    None where nothing is possible, its bounds where that is not sure. ``margin`` is gained - 0.25 possible, which is
    above zero where the goal is met; pairs are 95 % bounds."""

    fixed: float
    ours: float
    best: float
    optimism: float
    gained: tuple[float, float, float]
    possible: tuple[float, float, float]
    margin: tuple[float, float, float]
    ratio: tuple[float, float | None, float | None] | None


def optimism(layers_LP: Floats, groups: Groups, rng: np.random.Generator, draws: int = 2000) -> tuple[float, float]:
    """The rate of the best layer on these labels, and how much better than it is that choice makes it look: the mean
    over resamples of the rate of a resample's best layer here less its rate there (Efron's bootstrap of optimism). Of
    layers that are alike it takes off three quarters: what is possible looks a little larger, our share smaller."""
    total, count = groups.sums(layers_LP)
    best, excess = _optimism(total, count, np.ones((1, groups.n_groups)), rng, draws)
    return float(best[0]), float(excess[0])


def _optimism(
    total_GL: Floats, count_GL: Floats, weight_BG: Floats, rng: np.random.Generator, draws: int
) -> tuple[Floats, Floats]:
    """``(B,)`` the best layer's rate and its optimism in each of B weightings of the groups."""
    rate_BL = _rates(weight_BG, total_GL, count_GL)
    best, excess = np.empty(len(weight_BG)), np.empty(len(weight_BG))
    for b, (weight_G, rate_L) in enumerate(zip(weight_BG, rate_BL, strict=True)):
        n = int(weight_G.sum())
        drawn_IG = rng.multinomial(n, weight_G / n, size=draws).astype(float)
        drawn_IL = _rates(drawn_IG, total_GL, count_GL)
        chosen_I = drawn_IL.argmin(axis=1)
        excess[b] = float((rate_L[chosen_I] - drawn_IL[np.arange(draws), chosen_I]).mean())
        best[b] = float(rate_L.min())
    return best, excess


def goals(parts: Sequence[Part], seed: int) -> list[Goal]:
    """The share of the honest gain that each of our methods has, over all parts together; groups are resampled within
    each part, and the optimism is taken off anew in each resample."""
    rng = np.random.default_rng([seed, 3])
    share = np.array([len(part.fixed_P) for part in parts], dtype=float)
    share /= share.sum()
    here_K = share @ np.stack([_here(part, rng) for part in parts])
    drawn_KB = np.tensordot(share, np.stack([_drawn(part, rng) for part in parts]), axes=1)
    return [_goal(here_K[[0, i, -2, -1]], drawn_KB[[0, i, -2, -1]]) for i in range(1, len(here_K) - 2)]


def _goal(here_K: Floats, drawn_KB: Floats) -> Goal:
    """Of fixed, ours, best and optimism (K = 4), here and in resamples."""
    fixed, ours, best, excess = here_K.tolist()
    gained, possible = fixed - ours, fixed - best - excess
    gained_B, possible_B = drawn_KB[0] - drawn_KB[1], drawn_KB[0] - drawn_KB[2] - drawn_KB[3]
    ends = _ends(gained_B / possible_B) if np.quantile(possible_B, 0.025) > 0 else (None, None)
    return Goal(
        fixed,
        ours,
        best,
        excess,
        (gained, *_ends(gained_B)),
        (possible, *_ends(possible_B)),
        (gained - GOAL * possible, *_ends(gained_B - GOAL * possible_B)),
        (gained / possible, *ends) if possible > 0 else None,
    )


def _here(part: Part, rng: np.random.Generator) -> Floats:
    """``(K,)``: fixed, ours, best and its optimism."""
    plain = part.groups.mean(np.concatenate([part.fixed_P[None], part.ours_MP]))
    return np.append(plain, optimism(part.layers_LP, part.groups, rng))


def _drawn(part: Part, rng: np.random.Generator) -> Floats:
    """``(K, B)``: the same in resamples of the groups."""
    n = part.groups.n_groups
    weight_BG = rng.multinomial(n, np.full(n, 1 / n), size=OUTER).astype(float)
    plain = _rates(weight_BG, *part.groups.sums(np.concatenate([part.fixed_P[None], part.ours_MP])))
    return np.stack([*plain.T, *_optimism(*part.groups.sums(part.layers_LP), weight_BG, rng, INNER)])


def _rates(weight_BG: Floats, total_GR: Floats, count_GR: Floats) -> Floats:
    """``(B, R)`` weighted means; 1 where no prompt with a value is drawn."""
    top, bottom = weight_BG @ total_GR, weight_BG @ count_GR
    return np.where(bottom > 0, top / np.maximum(bottom, 1e-12), 1.0)


def _ends(drawn_B: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn_B, [0.025, 0.975])
    return float(low), float(high)
