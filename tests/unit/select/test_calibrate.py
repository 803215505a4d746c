"""Choosing a place: rates by hand and by brute force over pairs, ties, smoothing, and noise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalign.select import SelectorInput
from dalign.select.calibrate import Place, Statistic, best_place, event_rates, places
from dalign.select.rank import arg_weights


def inputs_of(**scores: np.ndarray) -> SelectorInput:
    shape = next(iter(scores.values())).shape[:2]
    every = np.ones(shape, dtype=bool)
    return SelectorInput(scores, np.ones(shape, dtype=np.int64), every, every)


def rates(
    place: Place, inputs: SelectorInput, event: np.ndarray, statistic: Statistic, known: np.ndarray | None = None
) -> list[float]:
    every = np.ones_like(event)
    return event_rates([place], inputs, every, event, every if known is None else known, statistic)[0].tolist()


def test_every_place_that_was_computed() -> None:
    layered = np.zeros((2, 3, 4))
    layered[..., 2] = np.nan  # a layer that was not asked for
    found = places(inputs_of(similarity=layered, kl=np.zeros((2, 3))))
    assert [(p.selector, p.layer) for p in found] == [
        *(("similarity_argmin", x) for x in (0, 1, 3)),
        *(("similarity_argmax", x) for x in (0, 1, 3)),
        ("kl_argmin", None),
        ("kl_argmax", None),
    ]


def test_rates_by_hand() -> None:
    inputs = inputs_of(kl=np.array([[0.1, 0.2, 0.3]]))
    event = np.array([[True, False, False]])
    assert rates(Place("kl", "argmin"), inputs, event, "chosen") == [1.0]
    assert rates(Place("kl", "argmax"), inputs, event, "chosen") == [0.0]
    # Of the pairs 01, 02, 12 the smaller one is an event in two, the larger one in none.
    assert rates(Place("kl", "argmin"), inputs, event, "pairs") == [pytest.approx(2 / 3)]
    assert rates(Place("kl", "argmax"), inputs, event, "pairs") == [0.0]


def test_what_has_no_verdict_is_left_out_and_a_prompt_without_any_has_no_rate() -> None:
    inputs = inputs_of(kl=np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [np.nan, 2.0, 3.0]]))
    event = np.array([[True, False, True], [True, True, True], [True, False, False]])
    known = np.array([[False, True, True], [False, False, False], [True, True, True]])
    first, none, lacking = rates(Place("kl", "argmin"), inputs, event, "pairs", known)
    assert first == 0.0
    assert np.isnan(none)
    assert lacking == 0.0  # a sample without a score loses its pairs


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_pairs_are_best_of_two_over_all_subsets(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (3, n)).astype(float)
    event, known = rng.random((3, n)) < 0.4, rng.random((3, n)) < 0.8
    got = rates(Place("s", "argmin"), inputs_of(s=scores), event, "pairs", known)
    for p in range(3):
        found = []
        for pair in combinations(np.flatnonzero(known[p]), 2):
            among = np.isin(np.arange(n), pair)[None]
            found.append((arg_weights(scores[p][None], among, "argmin") * event[p]).sum())
        if found:
            assert got[p] == pytest.approx(np.mean(found))


LAYERS = [Place("s", "argmin", x) for x in range(6)]


def test_ties_go_to_the_fixed_layer() -> None:
    level = np.full((6, 4), 0.25)
    assert best_place(LAYERS, level, fixed=3) == 3
    assert best_place(LAYERS, level) == 0
    level[4] = 0.2
    assert best_place(LAYERS, level, fixed=3, smooth=False) == 4


def test_smoothing_prefers_a_plateau_to_a_spike_and_leaves_the_placebo_alone() -> None:
    mean = np.array([0.30, 0.30, 0.08, 0.30, 0.12, 0.13])
    table = np.repeat(mean[:, None], 5, axis=1)
    assert best_place(LAYERS, table, smooth=False) == 2
    # Layer 5: (0.12 + 3 x 0.13) / 4 = 0.1275; layer 4: (0.30 + 0.24 + 0.13) / 4; layer 2: (0.6 + 0.16) / 4.
    assert best_place(LAYERS, table) == 5
    placebo = np.repeat(np.array([0.1, 0.4, 0.4, 0.4, 0.4, 0.4])[:, None], 5, axis=1)
    assert best_place(LAYERS, placebo) == 0


def test_prompts_without_a_rate_do_not_count_and_none_at_all_leaves_the_fixed_layer() -> None:
    table = np.full((6, 3), np.nan)
    assert best_place(LAYERS, table, fixed=2) == 2
    table[:, 0] = [0.5, 0.5, 0.5, 0.5, 0.5, 0.1]
    assert best_place(LAYERS, table, fixed=2) == 5


def test_pairs_find_the_layer_more_often_than_the_chosen_one() -> None:
    rng = np.random.default_rng(0)
    right = {"pairs": 0, "chosen": 0}
    for _ in range(40):
        event = rng.random((30, 8)) < 0.3
        scores = rng.normal(size=(30, 8, 6))
        scores[..., 4] += 0.8 * event
        inputs, every = inputs_of(s=scores), np.ones_like(event)
        for statistic in ("pairs", "chosen"):
            table = event_rates(LAYERS, inputs, every, event, every, statistic)
            right[statistic] += best_place(LAYERS, table, smooth=False) == 4
    assert right["pairs"] > right["chosen"]
