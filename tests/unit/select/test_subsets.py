"""Best of k: by hand, against every subset in whole fractions, to n = 64, and the error that random subsets leave."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dalign.select import SELECTORS, SelectorInput, Until, arg_weights, draws_until_safe
from dalign.select.rank import uniform_weights
from dalign.select.subsets import RANKS, Subsets, at_every_k, by_function, by_score, by_vote, monte_carlo_error

NAN = np.nan


def everyone(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=bool)


def weights(scores: list[float], k: int, eligible: list[bool] | None = None) -> list[float]:
    row = np.array([scores])
    able = everyone(*row.shape) if eligible is None else np.array([eligible])
    return by_score(row, able, everyone(*row.shape), [k], "argmin")[0, 0].tolist()


def test_two_of_four_by_hand() -> None:
    """Six pairs: the best is in three of them, the second the better one of two, the third of one, the last never."""
    assert weights([0.1, 0.4, 0.2, 0.3], 2) == [3 / 6, 0, 2 / 6, 1 / 6]


def test_ties_by_hand() -> None:
    """Of the pairs of 1, 1, 2 one holds both ones (half each), and two a one and the two."""
    assert weights([1.0, 1.0, 2.0], 2) == [0.5, 0.5, 0.0]
    assert weights([2.0, 1.0, 2.0], 2) == [1 / 6, 2 / 3, 1 / 6]


def test_what_is_not_eligible_takes_a_place_and_may_leave_nothing_to_choose() -> None:
    """Of the pairs of a, b, c, d with a and b cut off: ab leaves nothing, c is alone or better in ac, bc, cd."""
    found = weights([0.0, 0.0, 1.0, 2.0], 2, [False, False, True, True])
    assert found == [0, 0, 3 / 6, 2 / 6]
    assert weights([NAN, NAN, 1.0, 2.0], 2) == found
    assert weights([NAN, 1.0], 1) == [0, 0.5]
    assert weights([NAN, NAN], 2) == [0, 0]


def test_an_infinite_score_is_a_score() -> None:
    assert weights([np.inf, 1.0], 1) == [0.5, 0.5]
    assert weights([np.inf, NAN], 2) == [1.0, 0.0]


def fractions(scores: list[float], able: list[bool], k: int) -> list[Fraction]:
    """Every subset, in whole fractions."""
    out, n = [Fraction(0)] * len(scores), len(scores)
    for subset in combinations(range(n), k):
        can = [i for i in subset if able[i] and scores[i] == scores[i]]
        best = [i for i in can if scores[i] == min(scores[j] for j in can)]
        for i in best:
            out[i] += Fraction(1, len(best) * comb(n, k))
    return out


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_closed_form_is_the_mean_over_every_subset(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    scores = data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, NAN, np.inf]), min_size=n, max_size=n))
    able = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    for k in range(1, n + 1):
        assert weights(scores, k, able) == [float(w) for w in fractions(scores, able, k)], "each rounded once"


@given(
    scores=hnp.arrays(np.float64, (3, 6), elements=st.sampled_from([0.0, 1.0, 2.0, NAN])),
    able=hnp.arrays(bool, (3, 6)),
    way=st.sampled_from(["argmin", "argmax"]),
)
def test_all_of_n_is_the_selector_itself_and_one_of_n_is_any(scores: np.ndarray, able: np.ndarray, way: str) -> None:
    at_1, at_n = by_score(scores, able, everyone(3, 6), [1, 6], way)
    np.testing.assert_array_equal(at_n, arg_weights(scores, able, way))
    np.testing.assert_array_equal(at_1, np.where(able & ~np.isnan(scores), 1 / 6, 0.0))


@pytest.mark.parametrize("n", [33, 64])
def test_it_is_exact_where_binomials_are_large(n: int) -> None:
    """Rank r of n without ties: C(r - 1 others worse, k - 1) / C(n, k), in whole numbers."""
    rng = np.random.default_rng(n)
    order = rng.permutation(n)
    for k in (1, 2, n // 2, n - 1, n):
        found = by_score(order[None].astype(float), everyone(1, n), everyone(1, n), [k], "argmin")[0, 0]
        wanted = [float(Fraction(comb(n - 1 - int(rank), k - 1), comb(n, k))) for rank in order]
        assert found.tolist() == wanted
        assert abs(found.sum() - 1) < 1e-12


def test_an_all_tied_score_is_uniform_at_every_k() -> None:
    able = np.array([[True, True, False, True, True]])
    for k, row in enumerate(by_score(np.ones((1, 5)), able, everyone(1, 5), [1, 2, 3, 4, 5], "argmin"), 1):
        assert len(set(row[able[None][0]].tolist())) == 1, k
        assert row.sum() == pytest.approx(1 - comb(1, k) / comb(5, k))


def test_pass_at_k_is_the_best_by_the_event_itself() -> None:
    """Choosing by the event gives Chen's 1 - C(n - c, k) / C(n, k)."""
    event = np.array([[1.0, 0, 0, 1, 0, 0, 0, 1]])
    for k in range(1, 9):
        chosen = by_score(event, everyone(1, 8), everyone(1, 8), [k], "argmax")[0]
        assert float((chosen * event).sum()) == pytest.approx(1 - comb(5, k) / comb(8, k), abs=1e-15)


def test_prompts_with_fewer_samples_have_subsets_of_their_own() -> None:
    drawn = np.array([[True] * 4, [True, True, True, False]])
    scores = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    full, short = by_score(scores, everyone(2, 4), drawn, [2], "argmin")[0].tolist()
    assert (full, short) == ([3 / 6, 2 / 6, 1 / 6, 0], [2 / 3, 1 / 3, 0, 0])
    inputs = selector_input(2, 4, exists=drawn)
    found = by_function(SELECTORS["first"], inputs, drawn, [2], seed=0)
    np.testing.assert_allclose(found.weights_KPN[0], [full, short], atol=1e-15)


@pytest.mark.parametrize("k", [0, 5])
def test_a_k_that_cannot_be_drawn_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 4"):
        by_score(np.zeros((2, 4)), everyone(2, 4), everyone(2, 4), [2, k], "argmin")
    with pytest.raises(ValueError, match="from 1 to 4"):
        by_function(SELECTORS["first"], selector_input(2, 4), everyone(2, 4), [k], seed=0)


def selector_input(p: int, n: int, exists: np.ndarray | None = None, seed: int = 0) -> SelectorInput:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, (p, n))
    finished = rng.random((p, n)) < 0.8
    scores = {"s": np.where(rng.random((p, n)) < 0.2, NAN, rng.integers(0, 5, (p, n)) / 5)}
    drawn = everyone(p, n) if exists is None else exists
    return SelectorInput(scores, lengths, finished, drawn, until=Until("s", 0.4))


@pytest.mark.parametrize("name", sorted(RANKS))
def test_functions_that_rank_each_sample_by_itself_agree_with_every_subset(name: str) -> None:
    inputs, ks = selector_input(5, 6), [1, 2, 3, 5, 6]
    able = inputs.eligible(True)
    exact = at_every_k(name, SELECTORS[name], inputs, able, ks, seed=0)
    slow = by_function(SELECTORS[name], inputs, able, ks, seed=0)
    assert exact.draws is None
    np.testing.assert_allclose(exact.weights_KPN, slow.weights_KPN, atol=1e-14)


def test_resampling_draws_as_many_of_k_as_of_every_subset_in_the_mean() -> None:
    inputs = selector_input(12, 6)
    able = inputs.eligible(True)
    for k in range(1, 7):
        wanted = [
            draws_until_safe(replace(inputs, exists_PN=np.isin(np.arange(6), subset) & everyone(12, 6)), able & chosen)
            for subset in combinations(range(6), k)
            for chosen in [np.isin(np.arange(6), subset)]
        ]
        np.testing.assert_allclose(draws_until_safe(inputs, able, k), np.mean(wanted, axis=0), atol=1e-12)
    assert draws_until_safe(inputs, able, 6).tolist() == draws_until_safe(inputs, able).tolist()


def test_resampling_from_few_by_hand() -> None:
    """The third of three will do: of the pairs 12 draws two, 13 and 23 two; alone each draws one; of all three, three.
    With the second as well, 12 and 13 draw two and 23 one."""
    inputs = SelectorInput({"s": np.array([[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]])}, np.ones((2, 3), int), everyone(2, 3),
                           everyone(2, 3), until=Until("s", 0.4))  # fmt: skip
    found = [draws_until_safe(inputs, everyone(2, 3), k).tolist() for k in (1, 2, 3)]
    assert found == [[1, 1], [2, pytest.approx(5 / 3)], [3, 2]]


def votes(letters: str, k: int) -> list[float]:
    """``y`` refuses, ``n`` does not, ``-`` cannot be chosen."""
    row = np.array([list(letters)])
    return by_vote(row == "y", row == "n", everyone(*row.shape), [k])[0, 0].tolist()


def test_votes_by_hand() -> None:
    """Of the pairs of y, y, n: yy is one of three and half each; yn twice a tie, half each."""
    assert votes("yyn", 1) == [1 / 3] * 3, "one is a side of its own"
    assert votes("yyn", 2) == [1 / 3] * 3
    assert votes("yyn", 3) == [1 / 2, 1 / 2, 0]
    assert votes("yn-", 2) == [1 / 2, 1 / 2, 0], "yn is a tie; y- and n- leave one"
    assert votes("y--", 2) == [2 / 3, 0, 0], "-- leaves nothing"
    assert votes("---", 2) == [0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(letters=st.text("yn-", min_size=1, max_size=7), also=st.text("yn-", min_size=7, max_size=7))
def test_a_vote_of_k_is_the_mean_over_every_subset(letters: str, also: str) -> None:
    rows = np.array([list(letters), list(also[: len(letters)])])
    refusal, able = np.where(rows == "-", NAN, (rows == "y").astype(float)), rows != "-"
    inputs = SelectorInput({"refusal": refusal}, np.ones(rows.shape, int), able, everyone(*rows.shape))
    ks = range(1, len(letters) + 1)
    fast = at_every_k("refusal_vote", SELECTORS["refusal_vote"], inputs, able, ks, seed=0)
    slow = by_function(SELECTORS["refusal_vote"], inputs, able, ks, seed=0)
    assert fast.draws is None
    np.testing.assert_allclose(fast.weights_KPN, slow.weights_KPN, atol=1e-13)
    np.testing.assert_array_equal(fast.weights_KPN[-1], SELECTORS["refusal_vote"](inputs, able))


def test_a_vote_is_exact_where_binomials_are_large() -> None:
    """All of one side: C(n, k) subsets, each of k equal ones; and the two sides' weights are 1 in all."""
    assert votes("y" * 64, 32) == [1 / 64] * 64
    found = votes("y" * 30 + "n" * 34, 31)
    assert sum(found) == pytest.approx(1, abs=1e-12)
    assert found[0] < 1 / 64 < found[-1], "the larger side wins more often than its share"
    even = votes("y" * 32 + "n" * 32, 17)
    assert set(even) == {1 / 64}


def test_votes_of_prompts_with_fewer_samples_are_counted_among_those() -> None:
    drawn = np.array([[True, True, True, False]])
    yes, no = np.array([[True, True, False, True]]), np.array([[False, False, True, False]])
    assert by_vote(yes, no, drawn, [3])[0, 0].tolist() == [1 / 2, 1 / 2, 0, 0]
    with pytest.raises(ValueError, match="from 1 to 3"):
        by_vote(yes, no, drawn, [4])


def median_length(inputs: SelectorInput, eligible_PN: np.ndarray) -> np.ndarray:
    """Looks at siblings: the eligible samples nearest the median length of those that are there."""
    lengths = np.where(eligible_PN, inputs.lengths_PN.astype(float), NAN)
    middle = np.array(
        [np.median(row[able]) if able.any() else 0 for row, able in zip(lengths, eligible_PN, strict=True)]
    )
    return arg_weights(np.abs(lengths - middle[:, None]), eligible_PN, "argmin")


def test_a_selector_that_compares_samples_is_averaged_over_every_subset() -> None:
    """Lengths 1, 2, 4: of the pairs each gives half to both; of all three the middle one is taken."""
    inputs = SelectorInput({}, np.array([[1, 2, 4]]), everyone(1, 3), everyone(1, 3))
    found = at_every_k("median", median_length, inputs, everyone(1, 3), [1, 2, 3], seed=0)
    assert found.draws is None
    np.testing.assert_allclose(found.weights_KPN[:, 0], [[1 / 3] * 3, [1 / 3] * 3, [0, 1, 0]])


def test_random_subsets_come_within_their_error_and_from_their_seed() -> None:
    inputs = selector_input(40, 20)
    able, event = inputs.eligible(True), np.random.default_rng(5).random((40, 20)) < 0.4
    ks = [1, 4, 19, 20]
    exact = at_every_k("shortest", SELECTORS["shortest"], inputs, able, ks, seed=0)
    drawn = by_function(SELECTORS["shortest"], inputs, able, ks, seed=3, draws=400)
    again = by_function(SELECTORS["shortest"], inputs, able, ks, seed=3, draws=400)
    other = by_function(SELECTORS["shortest"], inputs, able, ks, seed=4, draws=400)
    assert drawn.draws == 400
    np.testing.assert_array_equal(drawn.weights_KPN, again.weights_KPN)
    assert (drawn.weights_KPN[:3] != other.weights_KPN[:3]).any()
    for i, _ in enumerate(ks):
        rate = (drawn.weights_KPN[i] * event).sum(-1)
        gap = abs(rate.mean() - (exact.weights_KPN[i] * event).sum(-1).mean())
        assert gap <= 4 * monte_carlo_error(rate, 400) + 1e-12
    np.testing.assert_allclose(drawn.weights_KPN[3], exact.weights_KPN[3], err_msg="all of 20 leaves nothing to draw")


def test_the_error_of_random_subsets_is_that_of_repeated_runs() -> None:
    inputs = SelectorInput({}, np.tile(np.arange(1, 21), (30, 1)), everyone(30, 20), everyone(30, 20))
    event = np.random.default_rng(1).random((30, 20)) < 0.5
    rates = []
    for seed in range(60):
        found: Subsets = by_function(SELECTORS["shortest"], inputs, everyone(30, 20), [5], seed=seed, draws=50)
        rates.append((found.weights_KPN[0] * event).sum(-1))
    seen, said = np.std([r.mean() for r in rates]), np.mean([monte_carlo_error(r, 50) for r in rates])
    assert 0.75 < seen / said < 1.3


def test_uniform_weights_are_what_random_gives_among_the_eligible() -> None:
    able = np.array([[True, False, True]])
    inputs = SelectorInput({}, np.array([[3, 1, 2]]), able, everyone(1, 3))
    found = at_every_k("random", SELECTORS["random"], inputs, able, [3], seed=0)
    np.testing.assert_array_equal(found.weights_KPN[0], uniform_weights(able))
