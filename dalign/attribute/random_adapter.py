"""A student whose adapter is random: in each module a low-rank update of the trained one's Frobenius norm and rank.

What a score tells of such a student it would tell of any perturbation of that size: it is no attribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from dalign.attribute.hidden import causal_lm
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.records import digest


@contextmanager
def random_adapter(loaded: LoadedModel, *seed: int) -> Iterator[LoadedModel]:
    """Inside, the adapter of ``loaded`` is random: its factors are normal, scaled to the norm of each module's trained
    update. The draws depend on ``seed`` and the modules' names alone. On exit the trained weights are back, every bit.

    Raises ``ModelError`` for an adapter that is more than low-rank updates of matrices; a trained output head is left
    as it is, since no hidden state depends on it.
    """
    factors = _factors(loaded.model)
    trained = [(a.detach().clone(), b.detach().clone()) for a, b in factors.values()]
    try:
        with torch.no_grad():
            for name, (a_RI, b_OR) in factors.items():
                draws = torch.Generator().manual_seed(int(digest("random adapter", *seed, name), 16) % 2**63)
                new_RI, new_OR = (torch.randn(w.shape, generator=draws).to(w.device) for w in (a_RI, b_OR))
                scale = update_norm(a_RI, b_OR) / update_norm(new_RI, new_OR)
                a_RI.copy_(new_RI)
                b_OR.copy_(new_OR * scale)
        yield loaded
    finally:
        with torch.no_grad():
            for pair, before in zip(factors.values(), trained, strict=True):
                for weight, own in zip(pair, before, strict=True):
                    weight.copy_(own)


def update_norm(a_RI: Tensor, b_OR: Tensor) -> float:
    """The Frobenius norm of ``B A`` in float64, from two (R, R) matrices: the product itself is never made."""
    a, b = a_RI.detach().double(), b_OR.detach().double()
    return float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())


def _factors(model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """The factors A (R, I) and B (O, R) of every module's active update, by the module's name."""
    head = causal_lm(model).get_output_embeddings()
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        low_rank = isinstance(module, LoraLayer)
        if not hasattr(module, "_disable_adapters") or (module is head and not low_rank):
            continue
        if not low_rank or not _plain(module):
            raise ModelError(
                f"the adapter changes {name} by more than a low-rank update ({type(module).__name__}), which has no "
                "random counterpart here; leave random_lora out of stage.controls"
            )
        for adapter in module.active_adapters:
            if adapter in module.lora_A:
                found[f"{name}/{adapter}"] = module.lora_A[adapter].weight, module.lora_B[adapter].weight
    return found


def _plain(module: LoraLayer) -> bool:
    """Whether the module's update is B A alone: no magnitudes or other variants, no bias, no table of embeddings."""
    active = list(module.active_adapters)
    other = any(one in module.lora_variant or module.lora_bias.get(one) for one in active)
    factors = [layers[one].weight for layers in (module.lora_A, module.lora_B) for one in active if one in layers]
    return not other and not len(module.lora_embedding_A) and all(weight.ndim == 2 for weight in factors)
