"""Optimism of a layer chosen on the test labels, and the share of the honest gain that ours has."""

from __future__ import annotations

import numpy as np
import pytest

from dalign.report.intervals import Groups
from dalign.report.optimism import Part, goals, optimism


def test_layers_that_are_alike_are_not_optimistic() -> None:
    layers = np.repeat((np.arange(40) % 4 == 0).astype(float)[None], 5, axis=0)
    best, excess = optimism(layers, Groups(range(40), [0]), np.random.default_rng(0))
    assert best == pytest.approx(0.25)
    assert excess == pytest.approx(0, abs=0.01)


def test_on_noise_it_takes_off_most_of_what_is_not_there() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        layers = (rng.random((12, 200)) < 0.25).astype(float)
        found.append(optimism(layers, Groups(range(200), [0]), rng, draws=200))
    best, excess = np.mean(found, axis=0)
    assert best < 0.21  # it looks four points better than it is
    assert 0.25 - (best + excess) < (0.25 - best) / 3
    assert best + excess < 0.255


def test_the_ratio_by_hand_where_nothing_is_by_chance() -> None:
    # All prompts alike: fixed 0.4, ours 0.3, the best layer 0.2, and no resample says otherwise.
    part = Part(
        np.full(20, 0.4), np.array([[0.3] * 20, [0.5] * 20]), np.array([[0.4] * 20, [0.2] * 20]), Groups(range(20), [0])
    )
    good, bad = goals([part], seed=0)
    assert (good.fixed, good.ours, good.best, good.optimism) == pytest.approx((0.4, 0.3, 0.2, 0))
    assert good.ratio == pytest.approx((0.5, 0.5, 0.5))
    assert good.margin == pytest.approx((0.05, 0.05, 0.05))
    assert bad.ratio == pytest.approx((-0.5, -0.5, -0.5))
    assert bad.margin[2] < 0


def test_parts_weigh_by_their_prompts() -> None:
    def part(n: int, fixed: float) -> Part:
        return Part(np.full(n, fixed), np.full((1, n), 0.1), np.full((2, n), 0.0), Groups(range(n), [0]))

    (found,) = goals([part(30, 0.2), part(10, 0.6)], seed=0)
    assert found.fixed == pytest.approx(0.3)
    assert found.gained[0] == pytest.approx(0.2)


def test_where_nothing_is_possible_there_is_no_ratio() -> None:
    rng = np.random.default_rng(1)
    layers = (rng.random((6, 80)) < 0.25).astype(float)
    (found,) = goals([Part(np.full(80, 0.1), layers[:1], layers, Groups(range(80), [0]))], seed=0)
    assert found.possible[0] < 0
    assert found.ratio is None
    assert all(np.isfinite(found.margin))
