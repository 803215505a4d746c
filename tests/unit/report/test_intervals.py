"""Intervals cover, are never of width zero, and respect groups; p-values equal enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from dalign.report.adjusting import benjamini_hochberg, holm
from dalign.report.detectable import detectable_in, smallest_detectable
from dalign.report.few import jeffreys, wilson
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


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.217), (1, 10, 0.011, 0.381), (2, 10, 0.044, 0.503), (5, 10, 0.224, 0.776), (10, 10, 0.783, 1.0)],
)
def test_jeffreys_equals_the_published_table(hits: int, n: int, low: float, high: float) -> None:
    """Brown, Cai and DasGupta (2001), table 5."""
    found = jeffreys(np.array([hits / n]), np.array([float(n)]))
    assert [float(x[0]) for x in found] == pytest.approx([low, high], abs=6e-4)


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


def test_few_losses_get_the_hybrid_of_both_parts() -> None:
    """Of 60 paired verdicts 3 turn bad and 8 turn good: the distances to Jeffreys' bounds of 3 and of 8 in 60 add as
    those of two parts that exclude each other."""
    values = np.array([[1.0] * 3 + [-1.0] * 8 + [0.0] * 49])
    up, down = (stats.beta(hits + 0.5, 60.5 - hits).ppf([0.025, 0.975]) - hits / 60 for hits in (3, 8))
    shared = np.sqrt(3 / 57 * 8 / 52)
    below = np.sqrt(up[0] ** 2 + down[1] ** 2 - 2 * shared * up[0] * down[1])
    above = np.sqrt(up[1] ** 2 + down[0] ** 2 - 2 * shared * up[1] * down[0])
    low, high = singles(60).difference_interval(values)
    assert (low[0], high[0]) == pytest.approx((-5 / 60 - below, -5 / 60 + above))
    several = np.array([[1.0] * 10 + [-1.0] * 15 + [0.0] * 35])
    first, other = (Groups(list(range(60)), [seed]).difference_interval(several)[0][0] for seed in (0, 1))
    assert first != other, "enough of both: the bootstrap's"


def test_smaller_changes_are_told_more_closely() -> None:
    """Eight falls by 1/8 in 60: (8/64 + 1/2) / (1 + 1/2) is their size, and none rose by what may be 1."""
    values = np.array([[-1 / 8] * 8 + [0.0] * 52])
    size = (8 / 64 + 0.5) / 1.5
    falls = stats.beta(1 / size + 0.5, 60.5 - 1 / size).ppf([0.025, 0.975]) * size - 1 / 60
    rises = stats.beta(0.5, 60.5).ppf(0.975)
    low, high = singles(60).difference_interval(values)
    assert (low[0], high[0]) == pytest.approx((-1 / 60 - falls[1], -1 / 60 + np.hypot(rises, falls[0])))
    once_low, once_high = singles(60).difference_interval(-values)
    assert (once_low[0], once_high[0]) == pytest.approx((-high[0], -low[0]))


@pytest.mark.parametrize("size", [0.5, 1.0])
@pytest.mark.parametrize("changed", [3, 4, 5])
def test_so_few_changes_that_no_permutation_is_sure_leave_zero_inside(changed: int, size: float) -> None:
    values = np.zeros((1, 60))
    values[0, :changed] = size
    groups, baseline = singles(60), np.full((1, 60), 0.25)
    assert groups.few_changes(values)[0]
    assert groups.sign_flip_p(values)[0] > 0.05
    for low, high in (groups.difference_interval(values), groups.relative_interval(baseline + values, baseline)):
        assert low[0] <= 0 < high[0]
    values[0, :6] = size
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


def test_one_verdict_a_prompt_gets_wilson() -> None:
    values = np.zeros((1, 50))
    values[0, :20] = 1
    np.testing.assert_allclose(singles(50).rate_interval(values), wilson(np.array([0.4]), np.array([50.0])))


def test_few_events_are_so_much_of_one_as_they_are_large() -> None:
    """Four of 50 prompts at 1/2: (4/4 + 1/4) / (2 + 1/4) = 5/9 is their size, so 2 / (5/9) events in 50."""
    values = np.zeros((1, 50))
    values[0, :4] = 0.5
    size = 5 / 9
    low, high = wilson(np.array([2 / size / 50]), np.array([50.0]))
    np.testing.assert_allclose(singles(50).rate_interval(values), (size * low, size * high))
    np.testing.assert_allclose(singles(50).rate_interval(1 - values), (1 - size * high, 1 - size * low))
    values[0, :10] = np.linspace(0.1, 1, 10)
    first, other = (Groups(list(range(50)), [seed]).rate_interval(values)[0][0] for seed in (0, 1))
    assert first != other, "ten have one: the bootstrap's"


def test_the_far_end_is_the_bootstraps_from_twenty_on_only() -> None:
    """Of 100 prompts 12 at 0.1 to 1: the lower end is drawn, the upper one Wilson's, and so for the opposite."""
    values = np.zeros((1, 100))
    values[0, :12] = np.linspace(0.1, 1, 12)
    size = ((values**2).sum() + 1 / 4) / (values.sum() + 1 / 4)
    high = size * wilson(np.array([values.mean() / size]), np.array([100.0]))[1][0]
    one, other = Groups(list(range(100)), [0]), Groups(list(range(100)), [1])
    assert [g.rate_interval(values)[1][0] for g in (one, other)] == pytest.approx([high, high])
    assert one.rate_interval(values)[0][0] != other.rate_interval(values)[0][0]
    assert one.rate_interval(1 - values)[0][0] == pytest.approx(1 - high)
    values[0, :20] = np.linspace(0.1, 1, 20)
    assert one.rate_interval(values)[1][0] != other.rate_interval(values)[1][0], "twenty have one: the bootstrap's"


def test_an_unseen_event_fills_a_group_of_the_size_there_is() -> None:
    """Groups of 1, 1, 1 and 6 prompts, ten times over: 40 (30 + 10 x 36) / 90^2 = 52/27, so 20.8 effective groups."""
    groups = Groups(np.repeat(np.arange(40), [1, 1, 1, 6] * 10).tolist(), [0])
    low, high = groups.rate_interval(np.zeros((1, 90)))
    assert low[0] == 0
    assert high[0] == pytest.approx(52 / 27 * wilson(np.zeros(1), np.array([40.0]))[1][0])
    assert groups.rate_interval(np.ones((1, 90)))[0][0] == pytest.approx(1 - high[0])


def test_few_whole_events_in_unequal_groups_cover_the_truth() -> None:
    """The prompts of a group fail together, nearly all of their answers or none. Taken for no larger than a group of
    mean size, unseen events left 82 %."""
    of = np.repeat(np.arange(40), [1, 1, 1, 6] * 10)
    groups, rng = Groups(of.tolist(), [0]), np.random.default_rng(12)
    rates = rng.binomial(8, rng.beta(0.1 / 19, 0.9 / 19, (1000, 40))[:, of]) / 8
    low, high = groups.rate_interval(rates)
    assert ((low <= 0.1) & (high >= 0.1)).mean() > 0.92


def test_few_events_in_unequal_groups_cover_the_truth() -> None:
    """Groups of one prompt and some of six, with a failure rate for each: few groups carry most of the weight."""
    sizes = [1, 1, 1, 6] * 10
    of = np.repeat(np.arange(40), sizes)
    groups, rng = Groups(of.tolist(), [0]), np.random.default_rng(11)
    rates = rng.binomial(8, rng.beta(0.02, 0.38, (600, 40))[:, of]) / 8
    low, high = groups.rate_interval(rates)
    assert ((low <= 0.05) & (high >= 0.05)).mean() > 0.92


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
