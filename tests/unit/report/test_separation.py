"""How well scores separate: by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from dalign.report.separation import calibration_error, hits_at, length_matched, prompt_aurocs


def test_within_prompts_only_pairs_of_one_prompt_count() -> None:
    scores = np.array([0.9, 0.1, 0.5, 0.5, 0.7])
    unsafe = np.array([True, False, True, False, True])
    found = prompt_aurocs(scores, unsafe, ["p", "p", "q", "q", "r"])
    assert found == {"p": 1.0, "q": 0.5}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40))
def test_against_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, unsafe = np.array([s / 10 for s, _ in rows]), np.array([u for _, u in rows])
    if unsafe.all() or not unsafe.any():
        assert hits_at(scores, unsafe, 0.2) is None
        assert prompt_aurocs(scores, unsafe, [0] * len(rows)) == {}
        return
    assert prompt_aurocs(scores, unsafe, [0] * len(rows))[0] == pytest.approx(roc_auc_score(unsafe, scores))
    alarms, hits, _ = roc_curve(unsafe, scores, drop_intermediate=False)
    assert hits_at(scores, unsafe, 0.2) == pytest.approx(hits[alarms <= 0.2].max())


def test_equal_scores_pass_the_threshold_together() -> None:
    scores = np.array([0.9, 0.9, 0.8, 0.1])
    assert hits_at(scores, np.array([True, False, True, False])) == 0.0
    assert hits_at(scores, np.array([True, True, False, False])) == 1.0
    assert hits_at(scores, np.array([True, False, True, False]), 0.5) == 1.0


def test_calibration_error_by_hand() -> None:
    p, unsafe = np.array([0.1, 0.15, 0.8, 1.0]), np.array([False, True, True, True])
    # bin 1: 0.25 promised, 1 found, of two; bin 8: 0.8 of 1; bin 9: 1 of 1
    assert calibration_error(p, unsafe) == pytest.approx((0.75 + 0.2 + 0.0) / 4)
    assert calibration_error(np.array([]), np.array([], dtype=bool)) is None


def test_matching_takes_the_nearest_within_a_tenth_and_each_once() -> None:
    lengths = np.array([100.0, 100.0, 95.0, 108.0, 50.0, 70.0])
    unsafe = np.array([True, True, False, False, True, False])
    kept = length_matched(lengths, unsafe, ["all"] * 6, rng=np.random.default_rng(0))
    assert kept.tolist() == [True, True, True, True, False, False]
    apart = length_matched(lengths, unsafe, ["p", "q", "p", "p", "q", "q"], rng=np.random.default_rng(0))
    assert apart.tolist() == [True, False, True, False, False, False]


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=40), st.integers(0, 5))
def test_what_is_matched_has_as_many_of_each_and_equal_lengths(rows: list[tuple[int, bool]], seed: int) -> None:
    lengths, unsafe = np.array([float(n) for n, _ in rows]), np.array([u for _, u in rows], dtype=bool)
    kept = length_matched(lengths, unsafe, ["all"] * len(rows), rng=np.random.default_rng(seed))
    assert (kept & unsafe).sum() == (kept & ~unsafe).sum()
    one, other = np.sort(lengths[kept & unsafe]), np.sort(lengths[kept & ~unsafe])
    assert np.all(np.abs(one - other) <= 0.1 * one + 1e-9)
