"""Attention of one decoding step on a CPU: every row reads the columns that are its own, and no others.

Such a step is bound by the keys and values it reads. Rows end in the same column, so a row that entered late has its
tokens in the last columns and nothing but padding before them: leaving these out changes no result. Heads that share
keys share the read as well; transformers repeats them, or packs the queries, where a mask is given. Other devices keep
transformers' own way: there a mask with shared heads falls back to a slow kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

NAME = "dalign_own_columns"
SPAN = 128  # rows next to each other whose columns differ by no more than this are read together

Run = tuple[int, int, int]  # first row, behind the last row, how many of the last columns they read
_runs: ContextVar[tuple[Run, ...]] = ContextVar("runs")


@contextmanager
def own_columns(model: Any, columns: Sequence[int]) -> Iterator[None]:
    """Inside, a step of one token a row reads the last ``columns[i]`` columns of row i; 0 where nobody wants the row.

    Does nothing for a model that is not on a CPU or whose attention is not ``sdpa``.
    """
    config = model.config.get_text_config()
    if model.device.type != "cpu" or config._attn_implementation != "sdpa":
        yield
        return
    token = _runs.set(runs_of(columns))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _runs.reset(token)


def runs_of(columns: Sequence[int]) -> tuple[Run, ...]:
    """Neighbouring rows whose columns differ by ``SPAN`` at most, with the most that one of them reads (at least 1)."""
    runs: list[Run] = []
    first, least, most = 0, 0, 0
    for row, count in enumerate(columns):
        low, high = min(least or count, count or least), max(most, count)
        if high - low > SPAN:
            runs.append((first, row, most))
            first, low, high = row, count, count
        least, most = low, high
    return (*runs, (first, len(columns), max(most, 1)))


def attend(
    module: Any,
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What ``sdpa_attention_forward`` returns: (B, T, H, D). Prompts, T > 1, and position biases are left to it."""
    if query_BHTD.shape[2] != 1 or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(
            module, query_BHTD, key_BKSD, value_BKSD, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    rows, heads = query_BHTD.shape[:2]
    mask = None if attention_mask is None else attention_mask.expand(rows, -1, -1, -1)
    out_BHTD = query_BHTD.new_empty(rows, heads, 1, value_BKSD.shape[-1])
    for first, last, columns in _runs.get():
        out_BHTD[first:last] = scaled_dot_product_attention(
            query_BHTD[first:last],
            key_BKSD[first:last, :, -columns:],
            value_BKSD[first:last, :, -columns:],
            attn_mask=None if mask is None else mask[first:last, :, :, -columns:],
            scale=scaling,
            enable_gqa=heads != key_BKSD.shape[1],
        )
    return out_BHTD.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
