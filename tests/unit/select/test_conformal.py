"""Limits by hand, against every limit there is, and by simulation: what is promised holds, and how it is broken."""

from __future__ import annotations

import numpy as np
import pytest
from abstain_world import broken_among_answered, unsafe_of_all
from hypothesis import given
from hypothesis import strategies as st

from dalign.select.conformal import answered_groups, binomial_p, groups_needed, learn_then_test, risk_control

NAMES = [f"g{i}" for i in range(39)]


def test_the_largest_limit_by_hand() -> None:
    risk = np.arange(39) / 100
    bad = np.isin(np.arange(39), (10, 20, 30))
    # (n R + 1) / (n + 1) with n = 39: one bad answer is 2 / 40 = 0.05, two are 3 / 40.
    assert risk_control(risk, bad, NAMES, 0.05) == pytest.approx(0.19)
    assert risk_control(risk, bad, NAMES, 0.075) == pytest.approx(0.29)
    assert risk_control(risk, bad, NAMES, 0.025) == pytest.approx(0.09)
    assert risk_control(risk, bad, NAMES, 0.0249) is None
    assert risk_control(risk, bad, NAMES, 0.1) == 1.0  # all of them may be answered


def test_groups_count_and_not_prompts() -> None:
    # 20 groups of two: a bad prompt is half a bad group, (0.5 + 1) / 21 = 0.0714.
    names = [f"g{i // 2}" for i in range(40)]
    risk, bad = np.arange(40) / 100, np.arange(40) == 7
    assert risk_control(risk, bad, names, 0.0715) == 1.0
    assert risk_control(risk, bad, names, 0.0714) == pytest.approx(0.06)


def test_equal_risks_are_answered_together_and_no_risk_is_never_answered() -> None:
    risk = np.concatenate([np.full(20, 0.1), np.full(18, 0.2), [np.nan]])
    bad = np.arange(39) == 25
    assert risk_control(risk, bad, NAMES, 0.04) == pytest.approx(0.1)
    assert risk_control(np.full(39, np.nan), np.ones(39, bool), NAMES, 0.05) == 1.0
    assert risk_control(np.full(39, 0.3), np.ones(39, bool), NAMES, 0.05) is None


@pytest.mark.parametrize(("alpha", "least"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1)])
def test_with_fewer_groups_nothing_can_be_answered(alpha: float, least: int) -> None:
    assert groups_needed(alpha) == least
    for n, possible in ((least - 1, False), (least, True)):
        found = risk_control(np.zeros(n), np.zeros(n, bool), [str(i) for i in range(n)], alpha)
        assert (found is not None) == possible


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 12)), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.1, 0.2, 0.4]),
)
def test_it_is_the_largest_of_all_limits(rows: list[tuple[int, bool, int]], alpha: float) -> None:
    risk, bad = np.array([r for r, _, _ in rows]) / 10, np.array([b for _, b, _ in rows])
    names = [str(g) for _, _, g in rows]
    n = len(set(names))

    def allowed(limit: float) -> bool:
        shares = [
            np.mean([b and r <= limit for r, b, g in zip(risk, bad, names, strict=True) if g == x]) for x in set(names)
        ]
        return (sum(shares) + 1) / (n + 1) <= alpha + 1e-12

    fitting = [x for x in risk if allowed(x)]
    found = risk_control(risk, bad, names, alpha)
    assert found == (None if not fitting else 1.0 if max(fitting) == risk.max() else max(fitting))


def test_binomial_p_by_hand() -> None:
    assert binomial_p(0, 20, 0.1) == pytest.approx(0.9**20)
    assert binomial_p(1, 20, 0.1) == pytest.approx(0.9**20 + 20 * 0.1 * 0.9**19)
    assert binomial_p(0, 0, 0.1) == 1.0


def test_learn_then_test_by_hand() -> None:
    risk = np.arange(100) / 100
    bad = np.arange(100) == 79
    names = [f"g{i}" for i in range(100)]
    assert answered_groups(risk, bad, names, 0.5) == (0, 51)
    # At 10 %: 0.9**22 = 0.098 and 0.9**29 = 0.047; one bad of 80 has p = 0.002.
    assert learn_then_test(risk, bad, names, 0.1, delta=0.1, grid=[0.19, 0.21, 0.79, 0.99]) == 0.99
    assert learn_then_test(risk, risk >= 0.29, names, 0.1, delta=0.1, grid=[0.21, 0.28, 0.99]) is None
    assert learn_then_test(risk, risk >= 0.29, names, 0.1, delta=0.1, grid=[0.28, 0.99]) == 0.28
    ordered = learn_then_test(
        risk, risk >= 0.29, names, 0.1, delta=0.1, grid=[0.28, 0.21, 0.5, 0.22], procedure="fixed_sequence"
    )
    assert ordered == 0.28
    late = learn_then_test(risk, bad, names, 0.1, delta=0.1, grid=[0.01, 0.9], procedure="fixed_sequence")
    assert late is None  # the first one that fails ends the sequence


@pytest.mark.parametrize(("told", "size"), [(0.0, 1), (0.8, 1), (0.8, 3)])
def test_the_promise_holds_by_simulation(told: float, size: int) -> None:
    rng = np.random.default_rng(7)
    found = np.array([unsafe_of_all(rng, 0.05, told=told, size=size) for _ in range(200)])
    error = found.std() / np.sqrt(len(found))
    assert found.mean() <= 0.05 + 2 * error
    assert found.mean() >= 0.02  # it is not kept by silence


def test_choosing_the_layer_on_the_threshold_split_breaks_the_promise() -> None:
    rng = np.random.default_rng(7)
    found = np.array([unsafe_of_all(rng, 0.05, layers=29) for _ in range(150)])
    assert found.mean() > 0.08


def test_learn_then_test_is_broken_no_more_often_than_delta() -> None:
    rng = np.random.default_rng(7)
    broken = np.mean(
        [broken_among_answered(rng, 0.1, 0.1, groups=150, size=size) for size in (1, 2) for _ in range(150)]
    )
    assert broken <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 300)
