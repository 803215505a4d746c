"""What the project's key-value caches share: how attention's view of a layer is bounded, and which models they fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.cache_utils import CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer


class WindowedLayer(CacheLayerMixin):
    """A cache layer that counts the columns written; with ``window`` attention sees the last ``window - 1`` of them
    and the new ones, what ``DynamicSlidingWindowLayer`` shows."""

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window = window
        self.is_sliding = window is not None
        self.seen = 0  # columns ever written

    def get_max_length(self) -> int:
        return -1 if self.window is None else self.window

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(columns attention sees, index of the first of them) when ``query_length`` more are written."""
        kept = self.kept()
        return kept + query_length, self.seen - kept

    def kept(self) -> int:
        """How many of the columns written attention still sees."""
        return self.seen if self.window is None else min(self.seen, self.window - 1)


def layers_for(config: Any, make: Callable[[int | None], WindowedLayer]) -> list[WindowedLayer] | None:
    """``make(window)`` for each layer of a model of ``config``; None if one is neither full nor sliding attention."""
    layers = DynamicCache(config=config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return None
    return [make(getattr(layer, "sliding_window", None)) for layer in layers]
