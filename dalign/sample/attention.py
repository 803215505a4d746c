"""Attention of one decoding step on a CPU: every row reads the columns that are its own, and no others.

Such a step is bound by the keys and values it reads. Samples of one prompt read its columns once, together, and heads
that share keys read them once. Rows end in the same column, so a row that entered late has its tokens in the last
columns and nothing but padding before them, which is left out. None of this changes a result beyond rounding. Other
devices keep transformers' own way: there a mask with shared heads falls back to a slow kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dalign.joined import Run, can_join, flash, join_, register
from dalign.sample.cache import BlockCache, BlockLayer, Columns

NAME = "dalign_own_columns"
SPAN = 128  # rows next to each other whose columns differ by no more than this are read together

Span = tuple[int, int, int]  # first row, behind the last row, how many of the last columns they read


@dataclass(frozen=True)
class _Step:
    """What rows read: ``whole`` of layers that hold prompts and responses; of the others ``own``, each with what its
    mask adds, and ``prompts``."""

    cache: BlockCache
    whole: tuple[Span, ...]
    own: tuple[tuple[Span, Tensor | None], ...]
    prompts: tuple[Run, ...]


_step: ContextVar[_Step] = ContextVar("step")


@contextmanager
def own_columns(model: Any, cache: Any, columns: Sequence[int], own: Sequence[int]) -> Iterator[None]:
    """Inside, a step of one token a row reads the last ``columns[i]`` columns of row i, of which ``own[i]`` came after
    its prompt; 0 where nobody wants the row.

    Does nothing for a model that is not on a CPU, whose attention is not ``sdpa``, or with another cache.
    """
    if not can_join(model) or not isinstance(cache, BlockCache):
        yield
        return
    config = model.config.get_text_config()
    masked = tuple((span, _mask(own, span, model.dtype)) for span in spans_of(own)) if cache.prompts else ()
    token = _step.set(_Step(cache, spans_of(columns), masked, cache.prompts))
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        _step.reset(token)


def spans_of(columns: Sequence[int]) -> tuple[Span, ...]:
    """Neighbouring rows whose columns differ by ``SPAN`` at most, with the most that one of them reads (at least 1)."""
    spans: list[Span] = []
    first, least, most = 0, 0, 0
    for row, count in enumerate(columns):
        low, high = min(least or count, count or least), max(most, count)
        if high - low > SPAN:
            spans.append((first, row, most))
            first, low, high = row, count, count
        least, most = low, high
    return (*spans, (first, len(columns), max(most, 1)))


def _mask(own: Sequence[int], span: Span, dtype: torch.dtype) -> Tensor | None:
    """What is added to the scores of a span's rows (rows, 1, 1, columns): -inf where one has fewer columns."""
    first, last, columns = span
    counts_B = torch.tensor([count or columns for count in own[first:last]])
    if bool((counts_B == columns).all()):
        return None
    padding_BK = torch.arange(columns) < columns - counts_B[:, None]
    return torch.zeros(padding_BK.shape, dtype=dtype).masked_fill_(padding_BK, -torch.inf)[:, None, None]


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
    step = _step.get()
    layer: BlockLayer = step.cache.layers[module.layer_idx]
    if layer.prompts is None:
        out_BHTD = _whole(step, query_BHTD, key_BKSD, value_BKSD, attention_mask, scaling)
    else:
        out_BHTD = _apart(step, layer.prompts, query_BHTD, key_BKSD, value_BKSD, scaling)
    return out_BHTD.transpose(1, 2).contiguous(), None


def _whole(
    step: _Step, query_BHTD: Tensor, key_BKSD: Tensor, value_BKSD: Tensor, mask: Tensor | None, scale: float | None
) -> Tensor:
    """Keys and values hold the prompts' columns too, and ``mask`` (B or 1, 1, 1, S) hides the padding."""
    rows, heads = query_BHTD.shape[:2]
    mask = None if mask is None else mask.expand(rows, -1, -1, -1)
    out_BHTD = query_BHTD.new_empty(rows, heads, 1, value_BKSD.shape[-1])
    for first, last, columns in step.whole:
        out_BHTD[first:last] = scaled_dot_product_attention(
            query_BHTD[first:last],
            key_BKSD[first:last, :, -columns:],
            value_BKSD[first:last, :, -columns:],
            attn_mask=None if mask is None else mask[first:last, :, :, -columns:],
            scale=scale,
            enable_gqa=heads != key_BKSD.shape[1],
        )
    return out_BHTD


def _apart(
    step: _Step,
    prompts: Sequence[Columns],
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    scale: float | None,
) -> Tensor:
    """Keys and values are those after the prompts; each run of rows reads its own prompt's at once."""
    out_BHTD = torch.empty_like(query_BHTD)
    lse_BHT = query_BHTD.new_empty(query_BHTD.shape[:3], dtype=torch.float32)
    for (first, last, columns), mask in step.own:
        keys, values = (t[first:last, :, -columns:] for t in (key_BKSD, value_BKSD))
        out_BHTD[first:last], lse_BHT[first:last] = flash(query_BHTD[first:last], keys, values, mask=mask, scale=scale)
    for first, last in step.prompts:
        part = shared(query_BHTD[first:last], prompts[first], scale)
        join_(out_BHTD[first:last], lse_BHT[first:last], *part)
    return out_BHTD


def shared(query_BHTD: Tensor, prompt: Columns, scale: float | None) -> tuple[Tensor, Tensor]:
    """Attention of all rows' one query to the same columns, (heads, columns, width): they are queries of one row."""
    rows, heads, _, width = query_BHTD.shape
    keys, values = prompt
    kinds = keys.shape[0]
    together = query_BHTD.reshape(rows, kinds, -1, width).transpose(0, 1).reshape(1, kinds, -1, width)
    out, lse = flash(together, keys[None], values[None], scale=scale)
    back = out.view(kinds, rows, -1, width).transpose(0, 1).reshape(rows, heads, 1, width)
    return back, lse.view(kinds, rows, -1).transpose(0, 1).reshape(rows, heads, 1)


register(NAME, attend, no_masks=lambda: bool(_step.get().prompts))
