"""Padding to the left, batches under a budget, and the budget that halves when memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dalign.attribute.batches import left_pad, out_of_memory, round_up, run_batches
from dalign.errors import ModelError


def test_rows_end_in_the_last_column_and_count_from_their_first_token() -> None:
    batch = left_pad([[7, 8], [5, 6, 7, 8]], 5, 0, torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[0, 0, 0, 7, 8], [0, 5, 6, 7, 8]]
    assert batch.mask_BT.tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 1, 1]]
    assert batch.positions_BT[:, 1:].tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


@pytest.mark.parametrize("row", [[], [1, 2, 3]])
def test_a_row_that_does_not_fit_is_not_cut(row: list[int]) -> None:
    with pytest.raises(ValueError, match=f"{len(row)} tokens"):
        left_pad([row], 2, 0, torch.device("cpu"))


def test_round_up() -> None:
    assert [round_up(n, 64) for n in (1, 64, 65)] == [64, 64, 128]


@given(st.lists(st.integers(1, 40), max_size=40), st.integers(1, 300), st.sampled_from([1, 8]))
def test_every_index_once_under_the_budget(lengths: list[int], budget: int, bucket: int) -> None:
    seen: list[int] = []

    def step(indices: Sequence[int], width: int) -> None:
        seen.extend(indices)
        assert width % bucket == 0
        assert width >= max(lengths[i] for i in indices)
        assert len(indices) * width <= budget or len(indices) == 1
        assert len(indices) & (len(indices) - 1) == 0, "row counts are powers of two"

    run_batches(lengths, budget=budget, bucket=bucket, step=step)
    assert sorted(seen) == list(range(len(lengths)))
    assert [lengths[i] for i in seen] == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_budget_halves_itself_when_memory_runs_out(error: Exception) -> None:
    done: list[int] = []
    sizes: list[int] = []

    def step(indices: Sequence[int], width: int) -> None:
        sizes.append(len(indices))
        if len(indices) * width > 20:
            raise error
        done.extend(indices)

    budget = run_batches([10] * 9, budget=80, bucket=1, step=step)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]
    assert sorted(done) == list(range(9))
    assert budget == 20


def test_a_single_row_that_does_not_fit_is_named() -> None:
    def step(indices: Sequence[int], width: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(ModelError, match="one pair of 33 tokens"):
        run_batches([33, 5], budget=100, bucket=1, step=step)


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def step(indices: Sequence[int], width: int) -> None:
        raise RuntimeError("shapes do not match")

    assert not out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        run_batches([3], budget=100, bucket=1, step=step)
