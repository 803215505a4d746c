"""Scores do not hang on how many processes share the pairs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random

import pytest
import tiny_models

from dalign.attribute import Pair, score_pairs
from dalign.specs.sampling import AttributionSpec

LENGTHS = ((5, 17), (30, 4), (5, 1), (12, 40), (41, 22), (12, 9), (30, 33))


def pairs() -> list[Pair]:
    """Ids of random lengths; the third and sixth prompts are the first and the fourth once more."""
    found = []
    for prompt, response in LENGTHS:
        rng = Random(prompt)
        ids = tuple(rng.randrange(2, tiny_models.VOCAB) for _ in range(prompt))
        found.append(Pair(ids, tuple(rng.randrange(2, tiny_models.VOCAB) for _ in range(response))))
    return found


def scores_of(indices: Sequence[int]) -> dict[int, list[float]]:
    """Every score of some of the pairs, by a model of this process's own."""
    loaded = tiny_models.loaded_tiny("gemma3")
    found = score_pairs(loaded, [pairs()[i] for i in indices], AttributionSpec(name="all"))
    return {
        i: [*one.layered["similarity"], *(one.flat[name] for name in sorted(one.flat))]
        for i, one in zip(indices, found, strict=True)
    }


def test_one_process_scores_what_two_or_three_do() -> None:
    whole = scores_of(range(len(LENGTHS)))
    assert min(whole[3][:4]) < 0.999, "the adapter of this test does nothing"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        for count in (2, 3):
            shares = [range(rank, len(LENGTHS), count) for rank in range(count)]
            parts = {i: values for part in pool.map(scores_of, shares) for i, values in part.items()}
            assert parts.keys() == whole.keys()
            for i, values in whole.items():
                assert parts[i] == pytest.approx(values, rel=1e-5, abs=1e-5)
