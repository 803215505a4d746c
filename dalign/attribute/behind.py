"""Attention of responses behind prompts that have passed, on a CPU: to the prompt and to the response apart.

Each of the two needs no mask (all of the prompt; what came before in the response), so padding is not read, nothing
above the diagonal is computed, shared heads are not repeated and a prompt's keys are not copied for each response. The
two results are joined by their log-sums of exponentials. Sliding layers, and other devices, keep transformers' own way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dalign.attribute.prefix import PrefixCache, PrefixLayer
from dalign.joined import Run, can_join, equal_runs, flash, join_, register

NAME = "dalign_behind_prompts"


@dataclass(frozen=True)
class _Pass:
    """The prompts' keys and values, where in their columns each begins, and whose responses the rows are, in runs."""

    cache: PrefixCache
    starts_P: list[int]
    rows_B: list[int]
    runs: list[Run]


_pass: ContextVar[_Pass | None] = ContextVar("pass", default=None)
_places: ContextVar[Tensor | None] = ContextVar("places", default=None)


@contextmanager
def behind(model: Any, depth: int, cache: PrefixCache, lengths_P: Tensor, rows_B: Tensor) -> Iterator[None]:
    """Inside, a pass of ``model`` through its first ``depth`` layers takes row b on from prompt ``rows_B[b]``.

    ``lengths_P`` are the tokens of the prompts, which end in the cache's last column. Rows of one prompt next to each
    other are computed together. Changes nothing where the model is not on a CPU, its attention is not ``sdpa``, or a
    layer's keys and values are not its own or differ in width.
    """
    config = model.config.get_text_config()
    layers: list[PrefixLayer] = cache.layers[:depth]
    known = all(layer.is_initialized and layer.keys.shape == layer.values.shape for layer in layers)
    cache.at(rows_B)
    if not can_join(model) or not known or not layers:
        yield
        return
    columns, rows = layers[0].seen, rows_B.tolist()
    starts = [columns - length for length in lengths_P.tolist()]
    token = _pass.set(_Pass(cache, starts, rows, equal_runs(rows)))
    config._attn_implementation = NAME
    for layer in layers:
        layer.apart = layer.window is None
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"
        for layer in layers:
            layer.apart = False
        _pass.reset(token)


def masks_needed() -> bool:
    """Whether attention to the response's columns must be told by a mask; not so inside ``behind``."""
    return _pass.get() is None


@contextmanager
def at_places(read_BK: Tensor) -> Iterator[None]:
    """Inside, a layer's queries are those of the columns ``read_BK`` alone."""
    token = _places.set(read_BK)
    try:
        yield
    finally:
        _places.reset(token)


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
    """What ``sdpa_attention_forward`` returns: (B, T, H, D). Keys and values are the response's own."""
    now = _pass.get()
    layer: Any = now.cache.layers[module.layer_idx] if now else None
    if now is None or not layer.apart:
        return sdpa_attention_forward(
            module, query_BHTD, key_BKSD, value_BKSD, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    mask = _up_to(_places.get(), query_BHTD, key_BKSD.shape[2])
    out_BHTD, lse_BHT = flash(query_BHTD, key_BKSD, value_BKSD, causal=mask is None, mask=mask, scale=scaling)
    for first, last in now.runs:
        prompt = now.rows_B[first]
        keys, values = (t[prompt : prompt + 1, :, now.starts_P[prompt] :] for t in (layer.keys, layer.values))
        join_(out_BHTD[first:last], lse_BHT[first:last], *_to_prompt(query_BHTD[first:last], keys, values, scaling))
    return out_BHTD.transpose(1, 2).contiguous(), None


def _to_prompt(query_BHTD: Tensor, keys: Tensor, values: Tensor, scaling: float | None) -> tuple[Tensor, Tensor]:
    """``flash`` of rows that share one prompt's keys and values, (1, K, S, D), as one row of B times T queries."""
    rows, heads, length, width = query_BHTD.shape
    queries = query_BHTD.transpose(1, 2).reshape(1, rows * length, heads, width).transpose(1, 2)
    out, lse = flash(queries, keys, values, scale=scaling)
    return (
        out.transpose(1, 2).reshape(rows, length, heads, width).transpose(1, 2),
        lse.reshape(heads, rows, length).transpose(0, 1),
    )


def _up_to(read_BK: Tensor | None, query_BHTD: Tensor, columns: int) -> Tensor | None:
    """What is added to the scores (B, 1, K, columns) of queries at the columns ``read_BK``: -inf behind each."""
    if read_BK is None:
        return None
    hidden = torch.arange(columns, device=read_BK.device) > read_BK[:, None, :, None]
    return query_BHTD.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)


register(NAME, attend, no_masks=lambda: _pass.get() is not None)
