"""Batches in few shapes under a token budget, which halves itself when memory runs out.

Prompts pass first, then what follows them. In low precision oneDNN compiles once a tensor shape, so there lengths go up
to a larger multiple; row counts are powers of two everywhere. Neither changes a score beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from dalign.errors import ModelError

FLOAT32_BUCKET, LOW_PRECISION_BUCKET = 8, 64


@dataclass(frozen=True)
class Batch:
    """Rows padded to one length: ids, mask (1 = token), positions counted from each row's first token."""

    ids_BT: Tensor
    mask_BT: Tensor
    positions_BT: Tensor


def left_pad(rows: Sequence[Sequence[int]], width: int, pad_id: int, device: torch.device) -> Batch:
    """A batch of ``width`` columns in which every row ends in the last one. Raises ``ValueError`` on a longer row."""
    return _padded(rows, [width - len(row) for row in rows], width, pad_id, device)


def right_pad(rows: Sequence[Sequence[int]], width: int, pad_id: int, device: torch.device) -> Batch:
    """A batch of ``width`` columns in which every row starts in the first one; ``ValueError`` on a longer row."""
    return _padded(rows, [0] * len(rows), width, pad_id, device)


def _padded(
    rows: Sequence[Sequence[int]], starts: Sequence[int], width: int, pad_id: int, device: torch.device
) -> Batch:
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        if not 0 < len(row) <= width:
            raise ValueError(f"row {i} has {len(row)} tokens, the batch has {width} columns")
        ids[i, start : start + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, start : start + len(row)] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return Batch(ids.to(device), mask.to(device), positions.to(device))


def round_up(length: int, bucket: int) -> int:
    """The smallest multiple of ``bucket`` that is at least ``length``."""
    return -(-length // bucket) * bucket


def bucket_of(dtype: torch.dtype) -> int:
    """What lengths are rounded up to for a model of ``dtype``."""
    return FLOAT32_BUCKET if dtype == torch.float32 else LOW_PRECISION_BUCKET


T = TypeVar("T")


def run_groups(
    prompts: Sequence[tuple[int, ...]],
    tails: Sequence[int],
    *,
    budget: int,
    bucket: int,
    begin: Callable[[list[tuple[int, ...]], int], T],
    step: Callable[[T, list[int], int], None],
) -> int:
    """Has every pair i (its prompt, and the number of tokens after it) done once; returns the budget at the end.

    Prompts pass in groups, the longest first: ``begin(distinct prompts, width)``. Then their pairs, those with the
    longest tails first: ``step(what begin returned, indices, width of the tails)``. Neither call gets more than
    ``budget`` padded tokens, unless it is a single row. If one runs out of memory, the budget is halved and what is not
    done goes on; ``step`` must therefore write nothing before it has all it computes. Raises ``ModelError`` if a single
    pair does not fit.
    """
    todo = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), prompts[i], -tails[i], i))
    while todo:
        group = _Group(todo, prompts, tails, budget, bucket)
        if not _survives(partial(group.run, begin, step, budget)):
            if group.smallest:
                length = len(prompts[group.left[0]]) + tails[group.left[0]]
                raise ModelError(
                    f"one pair of {length} tokens does not fit in memory by itself; use a smaller model or "
                    "dtype, a device with more memory, or fewer new tokens (sampler.max_new_tokens)"
                )
            budget = max(min(budget, group.tried) // 2, 1)
        done = set(group.members) - set(group.left)
        todo = [i for i in todo if i not in done]
    return budget


class _Group:
    """The pairs of the first few prompts of ``todo``, as many as pass together under ``budget``."""

    def __init__(
        self, todo: Sequence[int], prompts: Sequence[tuple[int, ...]], tails: Sequence[int], budget: int, bucket: int
    ) -> None:
        self.tails, self.bucket = tails, bucket
        self.width = round_up(len(prompts[todo[0]]), bucket)
        distinct = list(dict.fromkeys(prompts[i] for i in todo))
        self.prompts = distinct[: max(budget // self.width, 1)]
        chosen = set(self.prompts)
        self.members = [i for i in todo if prompts[i] in chosen]
        self.left = sorted(self.members, key=lambda i: (-tails[i], i))
        self.tried, self.smallest = 0, False

    def run(
        self, begin: Callable[[list[tuple[int, ...]], int], T], step: Callable[[T, list[int], int], None], budget: int
    ) -> None:
        """Takes pairs off ``left`` as they are done."""
        self.tried, self.smallest = len(self.prompts) * self.width, len(self.prompts) == 1
        begun = begin(self.prompts, self.width)
        while self.left:
            width = round_up(self.tails[self.left[0]], self.bucket)
            rows = _power_of_two(min(max(budget // (self.width + width), 1), len(self.left)))
            self.tried = rows * (self.width + width)
            self.smallest = rows == 1 and len(self.prompts) == 1
            step(begun, self.left[:rows], width)
            del self.left[:rows]


def _power_of_two(count: int) -> int:
    return 1 << (count.bit_length() - 1)


def _survives(work: Callable[[], None]) -> bool:
    """Whether it fitted in memory. Leaving the handler first lets go of the tensors its traceback holds."""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    else:
        return True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is a device's or the host's allocator giving up (torch names it in three ways)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory"))
