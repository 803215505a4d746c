"""LoRA layers in the precision of a half-precision base, while they train: their tensors stay float32.

peft makes a float32 copy of every layer's input, multiplies there, and adds there: slow products, and much memory.
Here one function multiplies in the base's precision, as autocast would, and keeps the input that the base keeps anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _AdaptedLinear(torch.autograd.Function):
    """x W' + bias + s (x A') B', for a frozen W; products in x's dtype, gradients of A and B in theirs."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, a_RI: Tensor, b_OR: Tensor, scaling: float
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        down_RI, up_OR = a_RI.to(x.dtype), (b_OR * scaling).to(x.dtype)
        low_TR = x_TI @ down_RI.T
        out_TO = functional.linear(x_TI, weight_OI, bias_O)
        out_TO.addmm_(low_TR, up_OR.T)
        ctx.save_for_backward(x_TI, low_TR, weight_OI, down_RI, up_OR)
        ctx.scaling, ctx.dtype = scaling, a_RI.dtype
        return out_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, low_TR, weight_OI, down_RI, up_OR = ctx.saved_tensors
        grad_TO = grad.reshape(-1, grad.shape[-1])
        low_grad_TR = grad_TO @ up_OR
        a_grad_RI = (low_grad_TR.T @ x_TI).to(ctx.dtype)
        b_grad_OR = (grad_TO.T @ low_TR).to(ctx.dtype) * ctx.scaling
        x_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = (grad_TO @ weight_OI).addmm_(low_grad_TR, down_RI).view(*grad.shape[:-1], -1)
        return x_grad, None, None, a_grad_RI, b_grad_OR, None


@contextmanager
def in_base_precision(model: nn.Module) -> Iterator[None]:
    """Every plain LoRA layer of ``model`` over a frozen half-precision base multiplies in that precision meanwhile.

    All other layers (float32 or quantised bases, dropout, variants such as DoRA) and switched-off adapters are peft's.
    """
    from peft.tuners.lora import Linear

    layers = [m for m in model.modules() if type(m) is Linear]
    for layer in layers:
        layer.forward = _forward(layer, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


def _forward(layer: Any, plain: Any) -> Any:
    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dtype = layer.base_layer.weight.dtype
        name = plain_adapter(layer, dtype) if dtype.itemsize == 2 else None
        if name is None or args or kwargs or x.dtype != dtype:
            return plain(x, *args, **kwargs)
        return adapted(layer, name)(x)

    return forward


def adapted(layer: Any, name: str) -> Callable[[Tensor], Tensor]:
    """The function of a layer for which ``plain_adapter`` found ``name``, on inputs of the base's precision."""
    a, b, base = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.base_layer

    def forward(x: Tensor) -> Tensor:
        out: Tensor = _AdaptedLinear.apply(x, base.weight, base.bias, a, b, layer.scaling[name])
        return out

    return forward


def plain_adapter(layer: Any, dtype: torch.dtype) -> str | None:
    """The name of the one adapter at work, if it and its base, in ``dtype``, are of the kind that ``adapted``
    computes."""
    base, names = layer.base_layer, layer.active_adapters
    if type(base) is not nn.Linear or base.weight.dtype != dtype or base.weight.requires_grad:
        return None
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return None
    (name,) = names
    dropout = layer.lora_dropout[name]
    dropped = dropout.training and getattr(dropout, "p", 0.0) > 0
    odd = dropped or name in layer.lora_variant or layer.lora_bias[name] or layer.fan_in_fan_out
    return None if odd else str(name)
