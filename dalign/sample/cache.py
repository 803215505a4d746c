"""A key-value cache that grows by blocks: a decoding step writes one column instead of copying every key and value.

transformers' ``DynamicCache`` concatenates at each step, which on a CPU costs more than a small model's arithmetic.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

BLOCK = 128


class BlockLayer(CacheLayerMixin):
    """One layer's keys and values, (B, heads, columns, width), in buffers with room for the next columns.

    With ``window`` only the last ``window - 1`` columns survive a change of buffers, and attention sees no more than
    those and the new ones: what ``DynamicSlidingWindowLayer`` returns.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.seen = 0  # columns ever written
        self.held = 0  # columns in the buffers now

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends columns; returns views of all keys and values that attention may see."""
        count = key_states.shape[-2]
        if self.held == 0:
            self.lazy_initialization(key_states, value_states)
        else:
            if self.held + count > self.keys.shape[-2]:
                self._rebuild(None, room=max(BLOCK, count))
            self.keys[:, :, self.held : self.held + count] = key_states
            self.values[:, :, self.held : self.held + count] = value_states
        first = max(self.held - self._kept(), 0)
        self.held += count
        self.seen += count
        return self.keys[:, :, first : self.held], self.values[:, :, first : self.held]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the rows ``indices``, which may repeat."""
        if self.held:
            self._rebuild(indices, room=BLOCK)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """The first columns are kept as they come; room is made when rows are selected or the second ones arrive."""
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def get_max_length(self) -> int:
        return -1 if self.window is None else self.window

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns attention sees, index of the first of them) when ``query_length`` more are written."""
        kept = self._kept()
        return kept + query_length, self.seen - kept

    def _kept(self) -> int:
        return self.seen if self.window is None else min(self.seen, self.window - 1)

    def _rebuild(self, indices: Tensor | None, room: int) -> None:
        kept = self._kept()

        def moved(old: Tensor) -> Tensor:
            part = old[:, :, self.held - kept : self.held]
            part = part if indices is None else part[indices]
            new = part.new_empty((*part.shape[:2], kept + room, part.shape[-1]))
            new[:, :, :kept] = part
            return new

        self.keys, self.values = moved(self.keys), moved(self.values)
        self.held = kept


def block_cache(config: Any) -> Any:
    """An empty cache for a model of ``config``; transformers' own if a layer is neither full nor sliding attention."""
    dynamic = DynamicCache(config=config)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in dynamic.layers):
        return dynamic
    return Cache(layers=[BlockLayer(getattr(layer, "sliding_window", None)) for layer in dynamic.layers])
