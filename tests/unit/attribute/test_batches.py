"""Padding to the left, batches under a budget, and the budget that halves when memory runs out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dalign.attribute.batches import left_pad, out_of_memory, right_pad, round_up, run_groups
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


LENGTHS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=40)


@given(LENGTHS, st.integers(1, 300), st.sampled_from([1, 8]))
def test_every_pair_once_behind_its_own_prompt_under_the_budget(
    pairs: list[tuple[int, int]], budget: int, bucket: int
) -> None:
    prompts = [(p,) * (3 * p + 1) for p, _ in pairs]
    tails = [tail for _, tail in pairs]
    seen: list[int] = []
    passed: list[tuple[int, ...]] = []

    def begin(distinct: list[tuple[int, ...]], width: int) -> tuple[list[tuple[int, ...]], int]:
        assert width % bucket == 0
        assert width >= max(map(len, distinct))
        assert len(distinct) * width <= budget or len(distinct) == 1
        passed.extend(distinct)
        return distinct, width

    def step(begun: tuple[list[tuple[int, ...]], int], indices: list[int], width: int) -> None:
        seen.extend(indices)
        assert width % bucket == 0
        assert width >= max(tails[i] for i in indices)
        assert {prompts[i] for i in indices} <= set(begun[0])
        assert len(indices) * (width + begun[1]) <= budget or len(indices) == 1
        assert len(indices) & (len(indices) - 1) == 0, "row counts are powers of two"

    run_groups(prompts, tails, budget=budget, bucket=bucket, begin=begin, step=step)
    assert sorted(seen) == list(range(len(pairs)))
    assert len(passed) == len(set(prompts)), "a prompt passes once"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
@pytest.mark.parametrize("where", ["prompts", "responses"])
def test_budget_halves_itself_when_memory_runs_out(error: Exception, where: str) -> None:
    done: list[int] = []
    sizes: list[int] = []

    def begin(distinct: list[tuple[int, ...]], width: int) -> None:
        if where == "prompts":
            sizes.append(len(distinct))
            if len(distinct) * width > 8:
                raise error

    def step(_: None, indices: list[int], width: int) -> None:
        if where == "responses":
            sizes.append(len(indices))
            if len(indices) * (width + 4) > 28:
                raise error
        done.extend(indices)

    prompts = [(i, 0, 0, 0) for i in range(9)]
    budget = run_groups(prompts, [10] * 9, budget=112, bucket=1, begin=begin, step=step)
    assert sorted(done) == list(range(9))
    wanted = {"prompts": ([9, 4, 2, 2, 2, 2, 1], 8), "responses": ([8, 4, 2, 2, 2, 1, 2], 28)}
    assert (sizes, budget) == wanted[where]


def test_what_is_done_is_not_done_again_after_memory_ran_out() -> None:
    done: list[int] = []

    def step(_: None, indices: list[int], width: int) -> None:
        if len(indices) > 1 and done:
            raise MemoryError
        done.extend(indices)

    run_groups([(1,)] * 6, [9, 8, 7, 6, 5, 4], budget=40, bucket=1, begin=lambda *_: None, step=step)
    assert sorted(done) == list(range(6))


def test_a_single_row_that_does_not_fit_is_named() -> None:
    def step(_: None, indices: list[int], width: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(ModelError, match="one pair of 33 tokens"):
        run_groups([(1,) * 3, (1,) * 3], [30, 2], budget=100, bucket=1, begin=lambda *_: None, step=step)


def test_other_errors_are_not_mistaken_for_memory() -> None:
    def step(_: None, indices: list[int], width: int) -> None:
        raise RuntimeError("shapes do not match")

    assert not out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        run_groups([(1,)], [3], budget=100, bucket=1, begin=lambda *_: None, step=step)


def test_responses_start_in_the_first_column() -> None:
    batch = right_pad([[7, 8], [5, 6, 7, 8]], 5, 0, torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[7, 8, 0, 0, 0], [5, 6, 7, 8, 0]]
    assert batch.mask_BT.tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert batch.positions_BT.tolist() == [[0, 1, 1, 1, 1], [0, 1, 2, 3, 3]]
    with pytest.raises(ValueError, match="6 tokens"):
        right_pad([[1] * 6], 5, 0, torch.device("cpu"))
