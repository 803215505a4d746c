"""Keys and values of prompts, computed once and attended to by all their responses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class PrefixLayer(CacheLayerMixin):
    """One layer's keys and values of P prompts, (P, heads, columns, width), kept as the first pass wrote them.

    Later passes see them in front of their own, a row of the cache for each of ``rows``, and leave them as they are.
    With ``window`` attention sees at most the last ``window - 1`` of them.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.rows: Tensor | None = None
        self.seen = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The first call writes the prompts; the others return the rows' prompts and the new columns behind them."""
        if not self.seen:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        first, rows = self.seen - self._kept(), self.rows
        assert rows is not None
        return (
            torch.cat([self.keys[rows, :, first:], key_states], dim=2),
            torch.cat([self.values[rows, :, first:], value_states], dim=2),
        )

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states, value_states
        self.seen = key_states.shape[-2]
        self.is_initialized = True

    def get_max_length(self) -> int:
        return -1 if self.window is None else self.window

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns attention sees, index of the first of them) for ``query_length`` new ones."""
        kept = self._kept()
        return kept + query_length, self.seen - kept

    def _kept(self) -> int:
        return self.seen if self.window is None else min(self.seen, self.window - 1)


class PrefixCache(Cache):
    """The prompts' keys and values in every layer; ``at(rows)`` says whose responses come next."""

    def at(self, rows_B: Tensor) -> PrefixCache:
        """This cache, with row b of the next pass behind prompt ``rows_B[b]``."""
        for layer in self.layers:
            layer.rows = rows_B
        return self


def prefix_cache(config: Any) -> PrefixCache | None:
    """An empty cache for a model of ``config``; None if it has layers that are neither full nor sliding attention."""
    layers = DynamicCache(config=config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    return PrefixCache(layers=[PrefixLayer(getattr(layer, "sliding_window", None)) for layer in layers])
