"""A causal LM taken apart into states and head, so that logits are made only where the loss needs them.

Also what training does to a loaded model and undoes afterwards: float32 for fully trained modules, recomputation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dalign.errors import ModelError
from dalign.train.lora import in_base_precision

log = logging.getLogger(__name__)

CHUNK_ELEMENTS = 1 << 24  # logits held at once: 64 MiB in float32


@dataclass(frozen=True)
class CausalParts:
    """``states`` maps ids (B, T), and ``position_ids`` if they are not 0 to T - 1, to (B, T, D), ``head`` maps (K, D)
    to logits (K, V), ``chunk`` positions at a time."""

    states: Callable[..., Tensor]
    head: Callable[[Tensor], Tensor]
    chunk: int


def take_apart(model: Any, ids_T: Tensor) -> CausalParts:
    """The parts of ``model``, an adapted or plain causal LM; ``ids_T`` is any short text to compare them with it on.

    A model that changes its logits after the head (softcapping, scaling) is used whole: more memory, the same loss.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone, head = causal.base_model, causal.get_output_embeddings()

    def states(ids_BT: Tensor, **positions: Tensor) -> Tensor:
        return backbone(input_ids=ids_BT, use_cache=False, **positions).last_hidden_state

    def logits(ids_BT: Tensor, **positions: Tensor) -> Tensor:
        return causal(input_ids=ids_BT, use_cache=False, **positions).logits

    was_training = causal.training
    causal.eval()
    with torch.no_grad():
        whole = logits(ids_T[None]).float()
        apart = head(states(ids_T[None])).float() if backbone is not causal and head is not None else None
    causal.train(was_training)
    chunk = max(1, CHUNK_ELEMENTS // whole.shape[-1])
    if apart is not None and bool((apart - whole).abs().max() <= 1e-5 * whole.abs().max()):
        return CausalParts(states, head, chunk)
    log.warning("%s changes its logits after the head: all logits of a micro-batch are held", type(causal).__name__)
    return CausalParts(logits, nn.Identity(), chunk)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimiser moves, by name. Raises ``ModelError`` if that is nothing (an adapter loaded for inference)."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ModelError(
            "0 trainable parameters: the adapter was loaded frozen, or none was attached; "
            "load it with is_trainable=True, or check model.lora.targets"
        )
    return found


@contextmanager
def prepared(model: Any, *, recompute: bool) -> Iterator[None]:
    """The model as training wants it, and as it was afterwards: in training mode, recomputing activations if asked.

    peft leaves ``modules_to_save`` in the checkpoint's dtype; in bfloat16 an AdamW step of 1e-5 is less than half the
    spacing at a weight of 0.02, and would never arrive. Such modules are trained in float32.
    """
    with ExitStack() as stack:
        stack.enter_context(in_base_precision(model))
        for module in _half_precision_copies(model):
            stack.enter_context(_in_float32(module))
        if recompute:
            stack.enter_context(_recomputing(model))
        was_training = model.training
        model.train()
        try:
            yield
        finally:
            model.train(was_training)


def _half_precision_copies(model: nn.Module) -> list[nn.Module]:
    from peft.utils.other import ModulesToSaveWrapper

    wrappers = [m for m in model.modules() if isinstance(m, ModulesToSaveWrapper)]
    copies = [copy for wrapper in wrappers for copy in wrapper.modules_to_save.values()]
    return [c for c in copies if any(p.requires_grad and p.dtype.itemsize < 4 for p in c.parameters())]


@contextmanager
def _in_float32(module: nn.Module) -> Iterator[None]:
    before = next(module.parameters()).dtype

    def widen(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)

    def narrow(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        return out.to(before)

    hooks = [module.register_forward_pre_hook(widen), module.register_forward_hook(narrow)]
    module.float()
    try:
        yield
    finally:
        module.to(before)
        for hook in hooks:
            hook.remove()


@contextmanager
def _recomputing(model: Any) -> Iterator[None]:
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    new_name = hasattr(causal, "activation_checkpointing_enable")  # transformers renames the pair towards version 6
    prefix = "activation" if new_name else "gradient"
    getattr(causal, f"{prefix}_checkpointing_enable")()
    causal.enable_input_require_grads()
    try:
        yield
    finally:
        causal.disable_input_require_grads()
        getattr(causal, f"{prefix}_checkpointing_disable")()
