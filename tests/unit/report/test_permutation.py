"""Permutation p-values: by hand, against every permutation, and small under the null no more often than they may be."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from fake_run import informative, one, report_of, write_cell
from hypothesis import given, settings
from hypothesis import strategies as st

from dalign.report.permutation import drawn_tails, exact_tails
from dalign.report.permutation_tables import permutation_tables
from dalign.select.rank import arg_weights

P, N = 3, 4


def flags(*words: str) -> np.ndarray:
    return np.array([[c == "1" for c in word] for word in words])


def test_two_prompts_by_hand() -> None:
    """One event of two, and one of four: neither chosen has chance 1/2 * 3/4, both 1/2 * 1/4."""
    free = flags("1100", "1111")
    event, chosen = flags("1000", "0100"), flags("0100", "1000")
    tails = exact_tails(chosen, event, free)
    assert tails is not None
    assert (tails.lower, tails.upper, tails.two_sided) == (3 / 8, 1.0, 3 / 4)
    both = exact_tails(event, event, free)
    assert both is not None
    assert (both.lower, both.upper, both.two_sided) == (1.0, 1 / 8, 1 / 4)


def test_a_tie_is_a_draw_of_several_by_hand() -> None:
    """Two of four chosen, two events: no event in 1 of 6, one in 4 of 6, two in 1 of 6."""
    tails = exact_tails(flags("1100"), flags("1010"), flags("1111"))
    assert tails is not None
    assert (tails.lower, tails.upper) == (pytest.approx(5 / 6), pytest.approx(5 / 6))


@pytest.mark.parametrize(
    ("chosen", "event", "free"),
    [("1000", "0000", "1111"), ("1000", "1111", "1111"), ("1111", "1010", "1111"), ("0001", "1010", "1110")],
)
def test_there_is_no_p_value_where_nothing_can_vary(chosen: str, event: str, free: str) -> None:
    """No events, nothing but events, all chosen, or a choice without a verdict."""
    able, picked = flags(free), flags(chosen)
    assert exact_tails(picked, flags(event), able) is None
    assert drawn_tails([picked[None].astype(float)], flags(event), able, able, [0]) == [None]


def by_force(weights_LPN: np.ndarray, event: np.ndarray, free: np.ndarray) -> tuple[float, float]:
    """Tails of the lowest and highest rate over L rows, over every order of each prompt's free verdicts."""

    def rates(events: np.ndarray) -> list[Fraction]:
        out = []
        for weights in weights_LPN:
            shares = []
            for w, e, f in zip(weights, events, free, strict=True):
                total = sum(Fraction(float(x)).limit_denominator(60) for x in w[f])
                if total:
                    shares.append(sum(Fraction(float(x)).limit_denominator(60) for x in w[f & e]) / total)
            out.append(sum(shares, Fraction(0)) / max(len(shares), 1))
        return out

    orders = []
    for e, f in zip(event, free, strict=True):
        rows = []
        for hits in combinations(np.flatnonzero(f), int((e & f).sum())):  # as many orders of the verdicts give each
            row = e & ~f
            row[list(hits)] = True
            rows.append(row)
        orders.append(rows)
    seen = rates(event)
    drawn = [rates(np.array(rows)) for rows in product(*orders)]
    low = sum(min(r) <= min(seen) for r in drawn) / len(drawn)
    high = sum(max(r) >= max(seen) for r in drawn) / len(drawn)
    return low, high


@settings(max_examples=40, deadline=None)
@given(
    scores=st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=N, max_size=N), min_size=P, max_size=P),
    event=st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=P, max_size=P),
    free=st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=P, max_size=P),
)
def test_exact_tails_are_those_of_every_permutation(
    scores: list[list[float]], event: list[list[bool]], free: list[list[bool]]
) -> None:
    able, events = np.array(free), np.array(event) & np.array(free)
    weights = arg_weights(np.array(scores), able, "argmin")
    tails = exact_tails(weights > 0, events, able)
    low, high = by_force(weights[None], events, able)
    if tails is None:
        assert (low, high) == (1.0, 1.0)
    else:
        assert (tails.lower, tails.upper) == (pytest.approx(low), pytest.approx(high))


def test_drawn_tails_come_near_every_permutation_jointly_over_layers() -> None:
    rng = np.random.default_rng(4)
    for seed in range(4):
        event = np.array([[True, False, False, True], [True, False, False, False], [True, True, False, True]])
        free = np.ones((3, 4), dtype=bool)
        weights = np.stack([arg_weights(rng.integers(0, 4, (3, 4)).astype(float), free, "argmin") for _ in range(3)])
        (tails,) = drawn_tails([weights], event, free, free, [seed])
        low, high = by_force(weights, event, free)
        assert tails is not None
        assert (tails.lower, tails.upper) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_drawn_and_exact_agree_for_one_choice_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    event, free = rng.random((40, 8)) < 0.4, rng.random((40, 8)) < 0.9
    weights = arg_weights(rng.random((40, 8)) + 0.3 * event, free, "argmin")
    exact, drawn = exact_tails(weights > 0, event, free), drawn_tails([weights[None]], event, free, free, [1])[0]
    assert exact is not None
    assert drawn is not None
    assert drawn.lower == pytest.approx(exact.lower, abs=4 * (exact.lower / 9999) ** 0.5 + 2e-4)
    assert [drawn, drawn] == drawn_tails([weights[None]] * 2, event, free, free, [1])
    assert [drawn] != drawn_tails([weights[None]], event, free, free, [2])


def test_under_the_null_p_values_are_small_as_often_as_they_say() -> None:
    """2,000 runs of 30 prompts with rates of their own and scores that know nothing, some of them tied."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(2000):
        rate = rng.beta(1, 2, (30, 1))
        event, scores = rng.random((30, 6)) < rate, np.round(rng.random((30, 6)), 1)
        able = rng.random((30, 6)) < 0.9
        tails = exact_tails(arg_weights(scores, able, "argmin") > 0, event, able)
        assert tails is not None
        found.append((tails.lower, tails.upper, tails.two_sided))
    shares = {alpha: (np.array(found) <= alpha).mean(axis=0) for alpha in (0.05, 0.1, 0.3)}
    for alpha, (lower, upper, two_sided) in shares.items():
        error = 3 * (alpha * (1 - alpha) / 2000) ** 0.5
        assert max(lower, upper, two_sided) <= alpha + error
        assert min(lower, upper) >= alpha / 2, "conservative by no more than steps of the distribution"


def test_under_the_null_the_best_of_layers_is_not_small_too_often_though_a_fixed_ones_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dalign.report.permutation.PERMUTATIONS", 499)
    rng = np.random.default_rng(12)
    joint, alone = [], []
    for run in range(150):
        event = rng.random((25, 6)) < rng.beta(1, 2, (25, 1))
        able = np.ones((25, 6), dtype=bool)
        base = rng.random((25, 6))
        layers = [base + rng.normal(0, 0.6, (25, 6)) for _ in range(12)]  # correlated, as layers are
        weights = np.stack([arg_weights(scores, able, "argmin") for scores in layers])
        (tails,) = drawn_tails([weights], event, able, able, [run])
        each = [exact_tails(w > 0, event, able) for w in weights]
        assert tails is not None
        joint.append(tails.lower)
        alone.append(min(t.lower for t in each if t is not None))
    assert np.mean(np.array(joint) <= 0.1) <= 0.1 + 3 * (0.1 * 0.9 / 150) ** 0.5
    assert np.mean(np.array(joint) <= 0.5) >= 0.15, "the best of twelve rates in steps of 1/25 takes few values"
    assert np.mean(np.array(alone) <= 0.1) > 0.25, "the best of twelve, taken for a fixed one"


def test_a_report_has_them_for_choices_and_none_for_bounds(tmp_path: Path) -> None:
    labels = ["us", "ss", "uu", "su", "us", "su", "us", "su"]
    write_cell(tmp_path / "r", labels, scores={"similarity": informative(labels)})
    report = report_of(tmp_path / "r")
    chosen = one(report, selector="similarity_argmin", layer=1)
    assert chosen.value == 1 / 8
    assert chosen.p_permutation == pytest.approx(2 / 64), "six prompts of two, the safe one each time; two-sided"
    best = one(report, selector="best_layer_similarity_argmin")
    assert best.p_permutation == pytest.approx(1 / 64, abs=0.006), "two layers that choose alike, one-sided"
    for name, layer in (("mean", None), ("random", None), ("similarity_argmin", 0), ("oracle_best", None)):
        assert one(report, selector=name, layer=layer).p_permutation is None, name
    assert {row.p_permutation for row in report.rows if row.subset != "all"} == {None}
    (table,) = permutation_tables(report)
    lines = {row[1]: row for row in table.rows}
    assert lines["similarity_argmin"][3:] == ("12 [2, 47]", "50", *lines["similarity_argmin"][5:])
    assert lines["similarity_argmin"][6:] == ("0.031", "–")
    assert lines["best_layer_similarity_argmin"][6] == "0.031"
    assert float(lines["best_layer_similarity_argmin"][7]) == pytest.approx(1 / 64, abs=0.006)


def test_verdicts_that_are_missing_stay_where_they_are(tmp_path: Path) -> None:
    """x has no verdict, - was cut off. Two prompts choose one of two free samples, two choose x and say nothing."""
    labels = ["us-x", "usx-", "us-x", "usx-"]
    write_cell(tmp_path / "r", labels, scores={"kl": [[1.0, 0.0, -9.0, 2.0]] * 4})
    row = one(report_of(tmp_path / "r", score="kl", layer=None), selector="kl_argmin")
    assert (row.value, row.n_unscored, row.n_paired) == (0.0, 2, 2)
    assert row.p_permutation == pytest.approx(2 / 4)
