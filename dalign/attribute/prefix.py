"""Keys and values of prompts, computed once and attended to by all their responses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from dalign.cache_layers import WindowedLayer, layers_for


class PrefixLayer(WindowedLayer):
    """One layer's keys and values of P prompts, (P, heads, columns, width), kept as the first pass wrote them.

    Later passes see them in front of their own, a row of the cache for each of ``rows``, and leave them as they are;
    with ``apart`` they see their own alone, and whoever computes attention comes for the prompts' here.
    """

    rows: Tensor | None = None
    apart = False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The first call writes the prompts; the others return the rows' prompts and the new columns behind them."""
        if not self.seen:
            self.lazy_initialization(key_states, value_states)
            return key_states, value_states
        if self.apart:
            return key_states, value_states
        first, rows = self.seen - self.kept(), self.rows
        assert rows is not None
        return (
            torch.cat([self.keys[rows, :, first:], key_states], dim=2),
            torch.cat([self.values[rows, :, first:], value_states], dim=2),
        )

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states, value_states
        self.seen = key_states.shape[-2]
        self.is_initialized = True


class PrefixCache(Cache):
    """The prompts' keys and values in every layer; ``at(rows)`` says whose responses come next."""

    def at(self, rows_B: Tensor) -> PrefixCache:
        """This cache, with row b of the next pass behind prompt ``rows_B[b]``."""
        for layer in self.layers:
            layer.rows = rows_B
        return self


def prefix_cache(config: Any) -> PrefixCache | None:
    """An empty cache for a model of ``config``; None if it has layers that are neither full nor sliding attention."""
    layers = layers_for(config, PrefixLayer)
    return None if layers is None else PrefixCache(layers=layers)
