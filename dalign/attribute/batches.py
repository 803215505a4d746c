"""Left-padded batches in few shapes under a token budget, which halves itself when memory runs out.

In low precision oneDNN compiles once a tensor shape (seconds each on a CPU), so there lengths go up to a multiple of
64; row counts are powers of two everywhere. Neither changes a score beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dalign.errors import ModelError

FLOAT32_BUCKET, LOW_PRECISION_BUCKET = 8, 64


@dataclass(frozen=True)
class Batch:
    """Rows padded on the left to one length: ids, mask (1 = token), positions counted from each row's first token."""

    ids_BT: Tensor
    mask_BT: Tensor
    positions_BT: Tensor


def left_pad(rows: Sequence[Sequence[int]], width: int, pad_id: int, device: torch.device) -> Batch:
    """A batch of ``width`` columns in which every row ends in the last one. Raises ``ValueError`` on a longer row."""
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        if not 0 < len(row) <= width:
            raise ValueError(f"row {i} has {len(row)} tokens, the batch has {width} columns")
        ids[i, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[i, width - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return Batch(ids.to(device), mask.to(device), positions.to(device))


def round_up(length: int, bucket: int) -> int:
    """The smallest multiple of ``bucket`` that is at least ``length``."""
    return -(-length // bucket) * bucket


def bucket_of(dtype: torch.dtype) -> int:
    """What lengths are rounded up to for a model of ``dtype``."""
    return FLOAT32_BUCKET if dtype == torch.float32 else LOW_PRECISION_BUCKET


def run_batches(lengths: Sequence[int], *, budget: int, bucket: int, step: Callable[[Sequence[int], int], None]) -> int:
    """Calls ``step(indices, width)`` until each index had its turn once, longest first; returns the budget at the end.

    A batch has at most ``budget`` padded tokens, but at least one row. If ``step`` runs out of memory, the budget is
    halved for this batch and all later ones; ``step`` must therefore write nothing before it has all it computes.
    Raises ``ModelError`` if a single row does not fit.
    """
    todo = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while todo:
        width = round_up(lengths[todo[0]], bucket)
        rows = _power_of_two(min(max(budget // width, 1), len(todo)))
        if _survives(step, todo[:rows], width):
            todo = todo[rows:]
        elif rows == 1:
            raise ModelError(
                f"one pair of {lengths[todo[0]]} tokens does not fit in memory by itself; use a smaller model or "
                "dtype, a device with more memory, or fewer new tokens (sampler.max_new_tokens)"
            )
        else:
            budget = rows * width // 2
    return budget


def _power_of_two(count: int) -> int:
    return 1 << (count.bit_length() - 1)


def _survives(step: Callable[[Sequence[int], int], None], indices: Sequence[int], width: int) -> bool:
    """Whether the batch fitted in memory. Leaving the handler first lets go of the tensors its traceback holds."""
    try:
        step(indices, width)
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
