"""A key-value cache that grows by blocks: a decoding step writes one column instead of copying every key and value.

transformers' ``DynamicCache`` concatenates at each step, which on a CPU costs more than a small model's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from dalign.cache_layers import WindowedLayer, layers_for

BLOCK = 128


class BlockLayer(WindowedLayer):
    """One layer's keys and values, (B, heads, columns, width), in buffers with room for the next columns.

    With ``window`` only the columns that attention still sees survive a change of buffers.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__(window)
        self.held = 0  # columns in the buffers now

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends columns; returns views of all keys and values that attention may see."""
        count = key_states.shape[-2]
        if self.held == 0:
            self.lazy_initialization(key_states, value_states)
        else:
            if self.held + count > self.keys.shape[-2]:
                self._grow(count)
            self.keys[:, :, self.held : self.held + count] = key_states
            self.values[:, :, self.held : self.held + count] = value_states
        first = max(self.held - self.kept(), 0)
        self.held += count
        self.seen += count
        return self.keys[:, :, first : self.held], self.values[:, :, first : self.held]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps the rows ``indices``, which may repeat."""
        if self.held:
            self.repack(indices, self.seen)

    def repack(self, rows: Tensor, columns: int, other: BlockLayer | None = None) -> None:
        """Keeps ``rows`` (indices, may repeat) and their last ``columns`` columns, then takes in ``other``'s rows.

        Rows end in the last column, before and after. Where one is shorter than the new width its first columns are 0,
        and the attention mask must hide them.
        """
        parts = [tuple(t[rows] for t in self._last(columns))]
        self.seen = columns
        if other is not None:
            parts.append(other._last(other.seen))
            self.seen = max(columns, other.seen)
        self.held = self.kept()
        self.keys, self.values = (_stacked([part[i] for part in parts], self.held, room=BLOCK) for i in (0, 1))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """The first columns are kept as they come; room is made when rows are selected or the second ones arrive."""
        self.keys, self.values = key_states, value_states
        self.is_initialized = True

    def _grow(self, count: int) -> None:
        kept = self.kept()
        self.keys, self.values = (_stacked([t], kept, room=max(BLOCK, count)) for t in self._last(kept))
        self.held = kept

    def _last(self, columns: int) -> tuple[Tensor, Tensor]:
        """Views of the last ``columns`` columns, or as many as attention can still see."""
        first = self.held - min(columns, self.kept())
        return self.keys[:, :, first : self.held], self.values[:, :, first : self.held]


def _stacked(parts: Sequence[Tensor], columns: int, room: int) -> Tensor:
    """The rows of ``parts`` one below the other, (B, heads, columns + room, width), right aligned at ``columns``."""
    first = parts[0]
    out = first.new_empty((sum(map(len, parts)), first.shape[1], columns + room, first.shape[-1]))
    start = 0
    for part in parts:
        rows, empty = out[start : start + len(part)], columns - part.shape[-2]
        rows[:, :, :empty] = 0
        rows[:, :, empty:columns] = part
        start += len(part)
    return out


class BlockCache(Cache):
    """A cache of ``BlockLayer``s, whose rows can be chosen, shortened and joined with another's."""

    def repack(self, rows: Tensor, columns: int, other: BlockCache | None = None) -> None:
        """See ``BlockLayer.repack``."""
        others = [None] * len(self.layers) if other is None else other.layers
        for layer, more in zip(self.layers, others, strict=True):
            layer.repack(rows, columns, more)


def block_cache(config: Any) -> Any:
    """An empty ``BlockCache`` for a model of ``config``; transformers' own cache if it has other layers than full and
    sliding attention."""
    layers = layers_for(config, BlockLayer)
    return DynamicCache(config=config) if layers is None else BlockCache(layers=layers)
