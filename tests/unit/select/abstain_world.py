"""A made-up world of risks, for how often a promise about abstaining holds: groups, risks at layers, bad answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dalign.select.conformal import answered_groups, learn_then_test, risk_control

Floats = NDArray[np.float64]
GRID = np.arange(1, 11) / 10


def draw(
    rng: np.random.Generator, groups: int, size: int, layers: int, told: float
) -> tuple[Floats, Floats, list[str]]:
    """(layers, P) risks and (P,) chances of a bad answer, of ``groups`` groups of ``size`` prompts that share a chance
    of mean 0.15. ``told`` is how much the risk says of it, 0 to 1; the layers' noises are independent."""
    chance = np.repeat(rng.beta(0.45, 2.55, size=groups), size)
    noise = rng.random((layers, groups * size))
    return told * chance + (1 - told) * noise, chance, [f"g{i}" for i in range(groups) for _ in range(size)]


def unsafe_of_all(
    rng: np.random.Generator, alpha: float, *, groups: int = 60, size: int = 1, layers: int = 1, told: float = 0.0
) -> float:
    """The true share of bad answers among all prompts once the limit is set on ``groups`` groups. With several layers
    it is the one that answers most there: the choice that must not be made on the threshold split."""
    risk, chance, names = draw(rng, groups, size, layers, told)
    bad = rng.random(len(chance)) < chance
    limits = [risk_control(one, bad, names, alpha) for one in risk]
    shares = [0.0 if limit is None else float((one <= limit).mean()) for one, limit in zip(risk, limits, strict=True)]
    best = int(np.argmax(shares))
    new_risk, new_chance, _ = draw(rng, 2000, 1, layers, told)
    limit = limits[best]
    return 0.0 if limit is None else float((new_chance * (new_risk[best] <= limit)).mean())


def broken_among_answered(rng: np.random.Generator, alpha: float, delta: float, *, groups: int, size: int) -> bool:
    """Whether Learn-then-Test returned a limit at which more than ``alpha`` of the answered groups are bad."""
    risk, chance, names = draw(rng, groups, size, 1, 0.8)
    bad = rng.random(len(chance)) < chance
    limit = learn_then_test(risk[0], bad, names, alpha, delta=delta, grid=GRID)
    if limit is None:
        return False
    new_risk, new_chance, new_names = draw(rng, 2000, size, 1, 0.8)
    new_bad = rng.random(len(new_chance)) < new_chance
    count, answered = answered_groups(new_risk[0], new_bad, new_names, limit)
    return count > alpha * answered
