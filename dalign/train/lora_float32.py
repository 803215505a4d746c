"""LoRA over a frozen float32 base, with fewer operations than peft's: merged while answers are drawn, one function a
layer while they are learnt from.

On a CPU the adapter's small products cost more than their arithmetic, above all in a decoding step of a few rows.
Results are peft's up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dalign.train.lora import adapted, plain_adapter

MOST_BYTES = 1 << 30  # of the weights that stand twice in memory while they are merged


@contextmanager
def one_function(model: nn.Module) -> Iterator[None]:
    """Inside, every plain LoRA layer is one function that keeps its input once; all other layers are peft's."""
    found = _layers(model)
    with _replaced({layer: adapted(layer, name) for layer, name in found.items()}):
        yield


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside, the weights of plain LoRA layers hold their adapters, and no gradient reaches these; afterwards the base
    is what it was, byte by byte. Does nothing where more than ``MOST_BYTES`` would stand twice."""
    found = _layers(model)
    weights = {layer: layer.base_layer.weight for layer in found}
    before = {layer: weight.data for layer, weight in weights.items()}
    if sum(data.nbytes for data in before.values()) > MOST_BYTES:
        yield
        return
    try:
        with torch.no_grad():
            for layer, name in found.items():
                a_RI, b_OR = layer.lora_A[name].weight, layer.lora_B[name].weight
                weights[layer].data = torch.addmm(before[layer], b_OR, a_RI, alpha=layer.scaling[name])
        with _replaced({layer: layer.base_layer.forward for layer in found}):
            yield
    finally:
        for layer, data in before.items():
            weights[layer].data = data


def _layers(model: nn.Module) -> dict[Any, str]:
    """The plain LoRA layers over float32 bases, with the adapter at work in each."""
    from peft.tuners.lora import Linear

    layers: list[Any] = [m for m in model.modules() if type(m) is Linear]
    named = {layer: plain_adapter(layer, torch.float32) for layer in layers}
    return {layer: name for layer, name in named.items() if name is not None}


@contextmanager
def _replaced(forwards: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """The layers' ``forward``, which may be replaced already, is another one meanwhile."""
    before = {layer: vars(layer).get("forward") for layer in forwards}
    for layer, forward in forwards.items():
        layer.forward = forward
    try:
        yield
    finally:
        for layer, forward in before.items():
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward
