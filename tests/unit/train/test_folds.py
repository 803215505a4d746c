"""Folds never split a group, are balanced, and do not depend on the order of rows."""

from __future__ import annotations

import numpy as np
import pytest

from dalign.errors import DataError
from dalign.train.folds import group_folds


def test_every_group_lies_in_exactly_one_fold() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{int(i)}" for i in rng.zipf(1.6, 400).clip(max=60)]
    folds = group_folds(groups, 5, seed=0)
    seen = {name: {int(f) for g, f in zip(groups, folds, strict=True) if g == name} for name in set(groups)}
    assert all(len(f) == 1 for f in seen.values())
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}


def test_balance_by_hand() -> None:
    groups = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"] * 2 + ["e"]
    folds = dict(zip(groups, group_folds(groups, 3, seed=0).tolist(), strict=True))
    assert (folds["a"], folds["b"]) == (0, 1)
    assert folds["c"] == 2  # or d, by the hash; then the other beside it, being the smallest fold
    assert folds["d"] == 2
    assert folds["e"] == 1
    assert np.bincount(group_folds(groups, 3, seed=0)).tolist() == [4, 4, 4]


def test_order_does_not_matter_and_the_seed_does() -> None:
    groups = [f"g{i // 3}" for i in range(60)]
    shuffled = np.random.default_rng(0).permutation(60)
    folds = group_folds(groups, 4, seed=0)
    assert np.array_equal(folds[shuffled], group_folds([groups[i] for i in shuffled], 4, seed=0))
    assert not np.array_equal(folds, group_folds(groups, 4, seed=1))
    assert np.bincount(folds).tolist() == [15, 15, 15, 15]


def test_fewer_groups_than_folds_is_an_error() -> None:
    with pytest.raises(DataError, match=r"stage.folds=3: there are 2 groups"):
        group_folds(["a", "a", "b"], 3, seed=0)
