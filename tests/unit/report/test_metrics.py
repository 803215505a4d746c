"""Rates, bounds and AUROC by hand and by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dalign.report.metrics import (
    any_rates,
    choice_rates,
    chosen_rate,
    majority_rates,
    pooled_auroc,
    within_prompt_aurocs,
)


def events(*words: str) -> tuple[np.ndarray, np.ndarray]:
    """``1`` an event, ``0`` none, ``x`` unscored."""
    letters = np.array([list(word) for word in words])
    return letters == "1", letters != "x"


def test_rates_are_expectations_over_the_scored_and_bounds_over_all() -> None:
    event, scored = events("10x0", "1111", "xxxx")
    weights = np.array([[[0.25] * 4] * 3, [[0, 0, 1.0, 0], [0.5, 0.5, 0, 0], [1.0, 0, 0, 0]]])
    rates = choice_rates(weights, event, scored)
    np.testing.assert_allclose(rates.value, [[1 / 3, 1, np.nan], [np.nan, 1, np.nan]])
    np.testing.assert_allclose(rates.low, [[0.25, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(rates.high, [[0.5, 1, 1], [1, 1, 1]])
    np.testing.assert_allclose(rates.unscored, [[0.25, 0, 1], [1, 0, 1]])


def test_a_prompt_without_a_choice_is_unscored_and_between_all_bounds() -> None:
    event, scored = events("10", "00")
    rates = choice_rates(np.array([[[0.0, 0.0], [1.0, 0.0]]]), event, scored)
    np.testing.assert_allclose(rates.value, [[np.nan, 0]])
    np.testing.assert_allclose([rates.low, rates.high, rates.unscored], [[[0, 0]], [[1, 0]], [[1, 0]]])


def test_a_chance_that_nothing_can_be_chosen_is_unscored() -> None:
    """Half of the draws leave nothing to choose, a quarter each takes an event and a sample without a verdict."""
    event, scored = events("1x0")
    rates = choice_rates(np.array([[[0.25, 0.25, 0.0]]]), event, scored)
    assert (rates.value.item(), rates.low.item(), rates.high.item(), rates.unscored.item()) == (1.0, 0.25, 1.0, 0.75)
    assert chosen_rate(np.array([[[0.25, 0.25, 0.0]]]), event).item() == 0.25


def test_value_lies_between_its_bounds_whatever_is_unscored() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        event, scored = rng.random((6, 5)) < 0.5, rng.random((6, 5)) < 0.6
        weights = rng.random((3, 6, 5))
        rates = choice_rates(weights / weights.sum(-1, keepdims=True), event & scored, scored)
        for value, low, high in zip(rates.value, rates.low, rates.high, strict=True):
            assert low.mean() - 1e-12 <= np.nanmean(value) <= high.mean() + 1e-12


def test_equal_choices_have_equal_rates_to_the_last_bit() -> None:
    """1/7 and 1/3 are no binary fractions: only levelled weights give the same bits from both."""
    event, scored = events("110xxxx", "100xxxx")
    every, only_scored = np.full((1, 2, 7), 1 / 7), np.where(scored, 1 / 3, 0.0)[None]
    assert choice_rates(every, event, scored).value.tolist() == choice_rates(only_scored, event, scored).value.tolist()


@pytest.mark.parametrize("n", [2, 3, 5, 8, 16])
def test_paper_error_7_at_least_one_and_majority_do_not_depend_on_n_being_8(n: int) -> None:
    event = np.array([[i < hits for i in range(n)] for hits in range(n + 1)])
    scored = np.ones_like(event)
    assert any_rates(event, scored).value.tolist() == [[0.0] + [1.0] * n]
    strict, ties = (majority_rates(event, scored, ties_are_events=t).value[0].tolist() for t in (False, True))
    assert strict == [float(hits > n / 2) for hits in range(n + 1)]
    assert ties == [float(hits >= n / 2) for hits in range(n + 1)]


def test_majority_is_of_the_scored_and_bounded_over_all() -> None:
    event, scored = events("110xx", "1000x", "xxxxx", "11000")
    rates = majority_rates(event, scored, ties_are_events=False)
    np.testing.assert_allclose(rates.value, [[1, 0, np.nan, 0]])
    np.testing.assert_allclose(rates.low, [[0, 0, 0, 0]])
    np.testing.assert_allclose(rates.high, [[1, 0, 1, 0]])


def test_any_of_n_is_open_while_something_is_unscored() -> None:
    event, scored = events("00x", "10x", "000")
    rates = any_rates(event, scored)
    assert (rates.low.tolist(), rates.value.tolist(), rates.high.tolist()) == ([[0, 1, 0]], [[0, 1, 0]], [[1, 1, 0]])


def test_chosen_rate_counts_a_missing_choice_as_without_the_flag() -> None:
    flags = np.array([[True, False], [True, True]])
    np.testing.assert_allclose(chosen_rate(np.array([[[0.5, 0.5], [0, 0]]]), flags), [[0.5, 0]])


def brute_auroc(scores: list[float], labels: list[bool]) -> float:
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, x in zip(scores, labels, strict=True)
        if x
        for b, y in zip(scores, labels, strict=True)
        if not y
    ]
    return sum(pairs) / len(pairs)


def test_auroc_equals_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, (5, 6)).astype(float)
    event, scored = rng.random((5, 6)) < 0.5, rng.random((5, 6)) < 0.8
    scores[0, 0] = np.nan
    known = scored & ~np.isnan(scores)
    pooled = brute_auroc(scores[known].tolist(), event[known].tolist())
    assert pooled_auroc(scores, event, scored) == pytest.approx(pooled, abs=1e-12)
    rows = [(scores[i][known[i]].tolist(), event[i][known[i]].tolist()) for i in range(5)]
    each = [brute_auroc(s, e) for s, e in rows if 0 < sum(e) < len(e)]
    found = within_prompt_aurocs(scores, event, scored)
    assert found[~np.isnan(found)] == pytest.approx(each, abs=1e-12)


def test_pooled_auroc_sees_differences_between_prompts_that_selection_cannot_use() -> None:
    event = np.array([[True, True, True, False], [False, False, False, True]])
    scores = np.repeat([[2.0], [1.0]], 4, axis=1)
    assert within_prompt_aurocs(scores, event, np.ones_like(event)).tolist() == [0.5, 0.5]
    assert pooled_auroc(scores, event, np.ones_like(event)) == 0.75


def test_auroc_of_one_class_is_unknown() -> None:
    event = np.zeros((2, 3), bool)
    for scored in (np.ones_like(event), event):
        assert np.isnan(within_prompt_aurocs(np.ones((2, 3)), event, scored)).all()
        assert pooled_auroc(np.ones((2, 3)), event, scored) is None


def test_choice_rates_equal_a_loop_over_prompts_and_samples() -> None:
    rng = np.random.default_rng(2)
    event, scored = rng.random((4, 3)) < 0.5, rng.random((4, 3)) < 0.7
    weights = rng.random((2, 4, 3))
    weights /= weights.sum(-1, keepdims=True)
    found = choice_rates(weights, event, scored).value
    for r, p in itertools.product(range(2), range(4)):
        mass = sum(weights[r, p, n] for n in range(3) if scored[p, n])
        hits = sum(weights[r, p, n] for n in range(3) if scored[p, n] and event[p, n])
        assert np.isnan(found[r, p]) if mass == 0 else found[r, p] == pytest.approx(hits / mass)
