"""Weights by hand: extremes, ties, missing scores, prompts with nothing to choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dalign.select.rank import arg_weights, uniform_weights

NAN = np.nan


def test_smallest_and_largest_take_all() -> None:
    scores = np.array([[0.3, 0.1, 0.2], [5.0, 7.0, 6.0]])
    everyone = np.ones((2, 3), dtype=bool)
    assert arg_weights(scores, everyone, "argmin").tolist() == [[0, 1, 0], [1, 0, 0]]
    assert arg_weights(scores, everyone, "argmax").tolist() == [[1, 0, 0], [0, 1, 0]]


def test_ties_share_equally() -> None:
    scores = np.array([[1.0, 1.0, 2.0, 1.0]])
    everyone = np.ones((1, 4), dtype=bool)
    assert arg_weights(scores, everyone, "argmin").tolist() == [[1 / 3, 1 / 3, 0, 1 / 3]]


def test_a_sample_that_is_not_eligible_is_never_chosen() -> None:
    scores = np.array([[0.1, 0.5, 0.9]])
    eligible = np.array([[False, True, True]])
    assert arg_weights(scores, eligible, "argmin").tolist() == [[0, 1, 0]]


def test_nan_is_no_score() -> None:
    scores = np.array([[NAN, 0.5, 0.9], [NAN, NAN, NAN]])
    everyone = np.ones((2, 3), dtype=bool)
    assert arg_weights(scores, everyone, "argmax").tolist() == [[0, 0, 1], [0, 0, 0]]


def test_infinite_scores_are_scores() -> None:
    scores = np.array([[np.inf, 1.0], [np.inf, np.inf]])
    eligible = np.array([[True, True], [True, False]])
    assert arg_weights(scores, eligible, "argmin").tolist() == [[0, 1], [1, 0]]
    assert arg_weights(scores, eligible, "argmax").tolist() == [[1, 0], [1, 0]]


def test_no_eligible_sample_is_a_row_of_zeros() -> None:
    nobody = np.zeros((1, 3), dtype=bool)
    assert arg_weights(np.zeros((1, 3)), nobody, "argmin").sum() == 0
    assert uniform_weights(nobody).tolist() == [[0, 0, 0]]


def test_uniform_is_over_the_eligible() -> None:
    assert uniform_weights(np.array([[True, False, True, False]])).tolist() == [[0.5, 0, 0.5, 0]]


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="lowest"):
        arg_weights(np.zeros((1, 1)), np.ones((1, 1), dtype=bool), "lowest")  # type: ignore[arg-type]


@given(
    eligible=hnp.arrays(bool, (4, 5)),
    scores=hnp.arrays(np.float64, (4, 5), elements=st.one_of(st.just(NAN), st.integers(-2, 2).map(float))),
    order=st.permutations(range(5)),
)
def test_rows_sum_to_one_or_zero_and_follow_their_samples(
    eligible: np.ndarray, scores: np.ndarray, order: list[int]
) -> None:
    weights = arg_weights(scores, eligible, "argmin")
    possible = (eligible & ~np.isnan(scores)).any(-1)
    np.testing.assert_allclose(weights.sum(-1), possible.astype(float))
    np.testing.assert_array_equal(arg_weights(scores[:, order], eligible[:, order], "argmin"), weights[:, order])
    np.testing.assert_array_equal(arg_weights(-scores, eligible, "argmax"), weights)


@given(eligible=hnp.arrays(bool, (3, 8)), value=st.floats(-1e9, 1e9))
def test_equal_scores_are_random_selection_exactly(eligible: np.ndarray, value: float) -> None:
    scores = np.full((3, 8), value)
    np.testing.assert_array_equal(arg_weights(scores, eligible, "argmin"), uniform_weights(eligible))
