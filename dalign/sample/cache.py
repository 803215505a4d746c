"""A key-value cache that grows by blocks: a decoding step writes one column instead of copying every key and value.

transformers' ``DynamicCache`` concatenates at each step, which on a CPU costs more than a small model's arithmetic.
Where attention can read a prompt's columns for all its samples at once, they are kept once and not a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from dalign.cache_layers import WindowedLayer, layers_for
from dalign.joined import Run, equal_runs

BLOCK = 128
Columns = tuple[Tensor, Tensor]  # keys and values of one row, each (heads, columns, width)


class BlockLayer(WindowedLayer):
    """One layer's keys and values, (B, heads, columns, width), in buffers with room for the next columns.

    With ``window`` only the columns that attention still sees survive a change of buffers. Once ``prompts`` are set,
    row i goes on from ``prompts[i]``, the same object for all its samples, and the buffers hold what came after.
    """

    def __init__(self, window: int | None = None) -> None:
        super().__init__(window)
        self.held = 0  # columns in the buffers now
        self.prompts: list[Columns] | None = None

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

    def share(self, rows: Sequence[int], lengths: Sequence[int]) -> None:
        """Row i from now on stands behind the last ``lengths[rows[i]]`` columns of what was row ``rows[i]``."""
        keys, values = self._last(self.held)
        held = [(keys[row, :, -n:], values[row, :, -n:]) for row, n in enumerate(lengths)]
        self.prompts = [held[row] for row in rows]
        self.keys, self.values = (t.new_empty((len(rows), t.shape[1], 0, t.shape[-1])) for t in (keys, values))
        self.held = self.seen = 0

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
        if self.prompts is not None:
            self.prompts = [self.prompts[row] for row in rows.tolist()] + (other.prompts or [] if other else [])
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

    prompts: tuple[Run, ...] = ()  # the rows that share a prompt's columns; none where every row has its own

    def begin(self, rows: Sequence[int], lengths: Sequence[int], *, share: bool) -> None:
        """After the pass of prompts with ``lengths`` tokens: row i goes on from prompt ``rows[i]``.

        With ``share`` layers of full attention keep the prompts once, unless keys and values differ in width.
        """
        share = share and all(layer.keys.shape == layer.values.shape for layer in self.layers)
        for layer in self.layers:
            if share and layer.window is None:
                layer.share(rows, lengths)
            else:
                layer.batch_select_indices(torch.tensor(rows, device=layer.keys.device))
        self._find_runs()

    def repack(self, rows: Tensor, columns: int, own: int, other: BlockCache | None = None) -> None:
        """See ``BlockLayer.repack``; ``own`` of the columns came after the prompts."""
        others = [None] * len(self.layers) if other is None else other.layers
        for layer, more in zip(self.layers, others, strict=True):
            layer.repack(rows, columns if layer.prompts is None else own, more)
        self._find_runs()

    def _find_runs(self) -> None:
        shared = [layer.prompts for layer in self.layers if layer.prompts is not None]
        self.prompts = tuple(equal_runs([id(prompt) for prompt in shared[0]])) if shared else ()


def block_cache(config: Any) -> Any:
    """An empty ``BlockCache`` for a model of ``config``; transformers' own cache if it has other layers than full and
    sliding attention."""
    layers = layers_for(config, BlockLayer)
    return DynamicCache(config=config) if layers is None else BlockCache(layers=layers)
