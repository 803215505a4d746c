"""Intervals cover, are never of width zero, and respect groups; p-values equal enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from dalign.report.adjusting import benjamini_hochberg, holm
from dalign.report.detectable import detectable_in, smallest_detectable
from dalign.report.few import wilson
from dalign.report.intervals import FLIPS, Groups


def singles(n: int, seed: int = 0) -> Groups:
    return Groups(list(range(n)), [seed])


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (1, 50, 0.0035, 0.1050), (10, 10, 0.7225, 1.0)],
)
def test_wilson_equals_the_textbook(hits: int, n: int, low: float, high: float) -> None:
    found = wilson(np.array([hits / n]), np.array([float(n)]))
    assert [float(x[0]) for x in found] == pytest.approx([low, high], abs=1e-4)


def test_benjamini_hochberg_by_hand() -> None:
    """Ranked .005 .01 .03 .04: times 4/rank gives .02 .02 .04 .04."""
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])
    assert benjamini_hochberg([]).size == 0


def test_holm_by_hand() -> None:
    """Ranked .005 .01 .03 .04: times 4 3 2 1 gives .02 .03 .06 .04, and no later one is below an earlier one."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]).size == 0


def test_mean_and_standard_error_are_clustered() -> None:
    values = np.array([[0.0, 1.0, 1.0, np.nan, 0.5, 0.5]])
    groups = Groups(["a", "b", "b", "b", "c", "c"], [0])
    assert groups.mean(values)[0] == pytest.approx(0.6)
    residuals = np.array([0 - 0.6, 2 - 1.2, 1 - 1.2])  # group sum less its size times the mean
    expected = np.sqrt((residuals**2).sum() / 25 * 3 / 2)
    assert groups.standard_error(values)[0] == pytest.approx(expected)
    assert smallest_detectable(groups.standard_error(values))[0] == pytest.approx(2.80159 * expected, rel=1e-5)


def test_standard_error_of_singletons_is_the_usual_one() -> None:
    values = np.random.default_rng(0).random((2, 30))
    np.testing.assert_allclose(singles(30).standard_error(values), values.std(axis=1, ddof=1) / np.sqrt(30))


def draw(rng: np.random.Generator, reps: int, n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Correlated samples: 8 verdicts a prompt at its own rate; and the safer of two samples less the mean."""
    own = rng.beta(1.5 * rate, 1.5 * (1 - rate), (reps, n))
    hits = rng.random((reps, n, 8)) < own[..., None]
    return hits.mean(2), (hits[..., 0] & hits[..., 1]) - hits.mean(2)


@pytest.mark.parametrize(("n", "rate"), [(60, 0.1), (60, 0.4), (100, 0.05), (200, 0.05)])
def test_intervals_cover_the_truth(n: int, rate: float) -> None:
    rates, differences = draw(np.random.default_rng(7), 400, n, rate)
    second = 1.5 * rate * (1.5 * rate + 1) / (1.5 * 2.5)  # E[rate²] of that beta
    low, high = singles(n).rate_interval(rates)
    assert ((low <= rate) & (rate <= high)).mean() > 0.92
    low, high = singles(n).difference_interval(differences)
    assert ((low <= second - rate) & (second - rate <= high)).mean() > 0.92


def test_few_losses_get_bonett_and_prices_interval() -> None:
    """Of 60 paired verdicts 3 turn bad and 8 turn good: (3 + 1) / 62 less (8 + 1) / 62, by Student's t of 59."""
    values = np.array([[1.0] * 3 + [-1.0] * 8 + [0.0] * 49])
    up, down = 4 / 62, 9 / 62
    half = stats.t.ppf(0.975, 59) * np.sqrt((up + down - (up - down) ** 2) / 62)
    low, high = singles(60).difference_interval(values)
    assert (low[0], high[0]) == pytest.approx((up - down - half, up - down + half))
    several = np.array([[1.0] * 10 + [-1.0] * 15 + [0.0] * 35])
    low, high = singles(60).difference_interval(several)
    assert (low[0] + high[0]) / 2 != pytest.approx((11 - 16) / 62, abs=1e-4), "enough of both: the bootstrap's"


@pytest.mark.parametrize("changed", [3, 4, 5])
def test_so_few_changes_that_no_permutation_is_sure_leave_zero_inside(changed: int) -> None:
    values = np.zeros((1, 60))
    values[0, :changed] = 0.5
    groups, baseline = singles(60), np.full((1, 60), 0.25)
    assert groups.few_changes(values)[0]
    assert groups.sign_flip_p(values)[0] > 0.05
    for low, high in (groups.difference_interval(values), groups.relative_interval(baseline + values, baseline)):
        assert low[0] < 0 < high[0]
    values[0, :6] = 0.5
    assert not groups.few_changes(values)[0]


def test_detectable_as_one_of_several_by_hand() -> None:
    """Two-sided at 0.05 and at 0.0125: quantiles 1.95996 and 2.49771, and 0.84162 for the power."""
    assert (detectable_in(1), detectable_in(4)) == pytest.approx((2.80158, 3.33933), abs=1e-5)


def test_pooling_samples_would_not_cover() -> None:
    """Eight samples are not eight prompts: the pooled Wilson interval covers far too rarely."""
    rates, _ = draw(np.random.default_rng(8), 400, 200, 0.3)
    low, high = wilson(rates.mean(axis=1), np.full(400, 1600.0))
    assert ((low <= 0.3) & (high >= 0.3)).mean() < 0.80


def test_copies_of_a_prompt_add_no_certainty() -> None:
    rates, differences = draw(np.random.default_rng(9), 1, 40, 0.3)
    tripled = Groups([i for i in range(40) for _ in range(3)], [0])
    for method, values in (("rate_interval", rates), ("difference_interval", differences)):
        once = [float(x[0]) for x in getattr(singles(40), method)(values)]
        assert [float(x[0]) for x in getattr(tripled, method)(np.repeat(values, 3, axis=1))] == pytest.approx(once)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("n", [1, 2, 30])
def test_no_interval_has_width_zero(value: float, n: int) -> None:
    values = np.full((1, n), value)
    for low, high in (singles(n).rate_interval(values), singles(n).difference_interval(values)):
        assert low[0] <= value <= high[0]
        assert high[0] - low[0] > 0.01


def test_one_verdict_a_prompt_and_few_events_get_wilson() -> None:
    plain, few = np.zeros((1, 50)), np.zeros((1, 50))
    plain[0, :20], few[0, :4] = 1, 0.5
    for values, mean in ((plain, 0.4), (few, 0.04)):
        expected = wilson(np.array([mean]), np.array([50.0]))
        np.testing.assert_allclose(singles(50).rate_interval(values), expected)


def test_a_row_without_values_has_no_interval() -> None:
    values = np.full((1, 5), np.nan)
    groups = singles(5)
    for found in (groups.rate_interval(values), groups.difference_interval(values), (groups.mean(values),)):
        assert np.isnan(found).all()


def test_missing_prompts_are_left_out_of_a_row_alone() -> None:
    rates, _ = draw(np.random.default_rng(3), 2, 60, 0.4)
    holed = rates.copy()
    holed[1, 30:] = np.nan
    both, alone = singles(60).rate_interval(holed), singles(60).rate_interval(rates[:1])
    assert [x[0] for x in both] == [x[0] for x in alone]
    assert both[1][1] - both[0][1] > both[1][0] - both[0][0]


def test_sign_flips_equal_enumeration_of_groups() -> None:
    values = np.array([0.5, 0.25, -0.125, 0.75, 0.1, 0.3, -0.2, 0.4])
    groups = Groups(["a", "a", "b", "c", "d", "e", "f", "g"], [0])
    sums = np.array([0.75, -0.125, 0.75, 0.1, 0.3, -0.2, 0.4])
    flips = [abs((np.array(s) * sums).sum()) >= sums.sum() - 1e-9 for s in itertools.product([-1, 1], repeat=7)]
    assert groups.sign_flip_p(values[None])[0] == pytest.approx(np.mean(flips), abs=0.015)
    assert groups.sign_flip_p(np.zeros((1, 8)))[0] == 1.0
    assert singles(60).sign_flip_p(np.ones((1, 60)))[0] == 1 / (FLIPS + 1)


def test_relative_change_is_null_below_ten_expected_events() -> None:
    rng = np.random.default_rng(4)
    base = rng.binomial(8, 0.2, (1, 60)) / 8
    values = base * (rng.random((1, 60)) < 0.5)
    low, high = singles(60).relative_interval(values, base)
    truth = values.mean() / base.mean() - 1
    assert -1 <= low[0] < truth < high[0] < 0
    assert np.isnan(singles(60).relative_interval(values * 0.5, base * (9.9 / base.sum()))).all()
    low, high = singles(60).relative_interval(np.zeros((1, 60)), base)
    assert low[0] == -1
    assert -1 < high[0] < 0


def test_equal_seeds_give_equal_draws_and_others_do_not() -> None:
    rates, _ = draw(np.random.default_rng(5), 1, 60, 0.4)
    first, again, other = (Groups(list(range(60)), [s]).rate_interval(rates) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
