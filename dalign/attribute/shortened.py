"""A decoder that does no more than is asked: no layer above the highest wanted, and that one at the places read alone.

The highest layer computes keys and values for every place, but attention and feed-forward for the places read alone. It
does so without knowing the architecture: its call is stopped when it hands its keys and values to the
cache, and made again on the places read, with a cache that returns those.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from dalign.attribute.behind import at_places, masks_needed
from dalign.errors import ModelError


def layers_of(decoder: nn.Module) -> nn.ModuleList:
    """The decoder's layers. Raises ``ModelError`` where there is no such list."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        raise ModelError(f"{type(decoder).__name__} has no list of layers named 'layers'; its states cannot be read")
    return layers


@contextmanager
def shortened(decoder: Any, top: int, read_BK: Tensor | None) -> Iterator[None]:
    """Inside, ``decoder`` ends after its first ``top`` layers, the final norm only after the very last one.

    The last layer run returns states (B, K, D) at the columns ``read_BK``; with None it runs everywhere.
    """
    layers, norm = layers_of(decoder), decoder.norm
    run: list[nn.Module] = list(layers)[:top]
    if read_BK is not None and run:
        run[-1] = _AtPlaces(run[-1], read_BK)
    decoder.layers = nn.ModuleList(run)
    if top < len(layers):
        decoder.norm = nn.Identity()
    try:
        yield
    finally:
        decoder.layers, decoder.norm = layers, norm


class _CapturedSignal(Exception):  # noqa: N818
    """The layer has handed over its keys and values; what it would do next is not wanted."""


class _Capture:
    """A cache that takes keys and values and stops the layer."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.states: Any = None

    def update(self, *args: Any, **kwargs: Any) -> Any:
        self.states = self.cache.update(*args, **kwargs)
        raise _CapturedSignal


class _Given:
    """A cache that answers with keys and values computed before."""

    def __init__(self, states: Any) -> None:
        self.states = states

    def update(self, *_: Any, **__: Any) -> Any:
        return self.states


class _AtPlaces(nn.Module):
    """A decoder layer whose output is wanted at ``read_BK`` alone."""

    def __init__(self, layer: nn.Module, read_BK: Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.read_BK = read_BK

    def __getattr__(self, name: str) -> Any:
        """Decoders look at their layers' attributes, such as ``attention_type``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden_states: Tensor, **options: Any) -> Any:
        cache, mask = options.get("past_key_values"), options.get("attention_mask")
        # Flash attention's mask is 2-D.
        if cache is None or not (self._needs_no_mask(hidden_states) if mask is None else mask.ndim == 4):
            return self._everywhere(hidden_states, options)
        capture = _Capture(cache)
        try:
            out = self.layer(hidden_states, **{**options, "past_key_values": capture})
        except _CapturedSignal:
            at = {name: self._at(value, hidden_states) for name, value in options.items()}
            at |= {"past_key_values": _Given(capture.states)}
            if mask is not None:
                at["attention_mask"] = self._mask(mask)
            with at_places(self.read_BK):
                out = self.layer(self._places(hidden_states), **at)
            return out[0] if isinstance(out, tuple) else out
        return self._places(out[0] if isinstance(out, tuple) else out)

    def _needs_no_mask(self, hidden_states: Tensor) -> bool:
        """Without a mask nothing is hidden from a query: right for the last column, or where attention asks for the
        places itself."""
        last = self.read_BK.shape[1] == 1 and bool((self.read_BK == hidden_states.shape[1] - 1).all())
        return last or not masks_needed()

    def _everywhere(self, hidden_states: Tensor, options: dict[str, Any]) -> Tensor:
        out = self.layer(hidden_states, **options)
        return self._places(out[0] if isinstance(out, tuple) else out)

    def _places(self, states_BTX: Tensor) -> Tensor:
        index = self.read_BK.unsqueeze(-1).expand(-1, -1, states_BTX.shape[-1])
        return states_BTX.expand(len(self.read_BK), -1, -1).gather(1, index)

    def _at(self, value: Any, hidden_states: Tensor) -> Any:
        """What belongs to a place, at the places read: position ids (B, T), rotary tables (B, T, X), tuples of them."""
        if isinstance(value, tuple):
            return tuple(self._at(one, hidden_states) for one in value)
        if not isinstance(value, Tensor) or value.ndim not in (2, 3) or value.shape[1] != hidden_states.shape[1]:
            return value
        if value.ndim == 2:
            return value.expand(len(self.read_BK), -1).gather(1, self.read_BK)
        return self._places(value)

    def _mask(self, mask_BHTS: Tensor) -> Tensor:
        index = self.read_BK[:, None, :, None].expand(-1, mask_BHTS.shape[1], -1, mask_BHTS.shape[-1])
        return mask_BHTS.expand(len(self.read_BK), -1, -1, -1).gather(2, index)
