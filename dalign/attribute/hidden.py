"""Hidden states of a causal LM at the end of each row, at every layer, and its output head by itself.

Layer l is transformers' ``hidden_states[l]``: 0 the embeddings, the last one after the final norm. Hooks keep one
vector a row and layer where ``output_hidden_states`` would keep every position, and no logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dalign.attribute.batches import Batch
from dalign.errors import ModelError

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """``ends_BLD``: float32 states at each row's last column. ``final_BTD``: the last layer's, everywhere."""

    ends_BLD: Tensor
    final_BTD: Tensor


def causal_lm(model: Any) -> Any:
    """The causal LM inside a ``PeftModel`` (LoRA layers live in it), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def read_states(model: nn.Module, batch: Batch) -> Reading:
    """One pass through the decoder of ``model``. Rows are left padded, so each row's last token is the last column."""
    decoder = causal_lm(model).get_decoder()
    with _ends_of_layers(decoder) as ends:
        out = decoder(
            input_ids=batch.ids_BT,
            attention_mask=batch.mask_BT,
            position_ids=batch.positions_BT,
            use_cache=False,
        )
    final = out.last_hidden_state
    return Reading(torch.stack([*ends, final[:, -1].float()], dim=1), final)


@contextmanager
def _ends_of_layers(decoder: nn.Module) -> Iterator[list[Tensor]]:
    """Collects the state at the last column before the first layer and after each but the last one."""
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        raise ModelError(f"{type(decoder).__name__} has no list of layers named 'layers'; its states cannot be read")
    ends: list[Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ends.append((args[0] if args else kwargs["hidden_states"])[:, -1].float())

    def after(_: nn.Module, __: Any, output: Any) -> None:
        ends.append((output[0] if isinstance(output, tuple) else output)[:, -1].float())

    hooks = [layers[0].register_forward_pre_hook(before, with_kwargs=True)]
    hooks += [layer.register_forward_hook(after) for layer in list(layers)[:-1]]
    try:
        yield ends
    finally:
        for hook in hooks:
            hook.remove()


def output_head(model: nn.Module) -> Head:
    """The map from final states (M, D) to the logits (M, V) that ``model`` itself returns, checked on one token.

    Raises ``ModelError`` for architectures that scale their logits in a way not known here.
    """
    inner = causal_lm(model)
    cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
    head = inner.get_output_embeddings()

    def logits(states_MD: Tensor) -> Tensor:
        out: Tensor = head(states_MD)
        return out if cap is None else torch.tanh(out / cap) * cap

    token = torch.zeros((1, 1), dtype=torch.long, device=inner.device)
    out = inner(input_ids=token, use_cache=False, output_hidden_states=True)
    found, wanted = logits(out.hidden_states[-1][0]).float(), out.logits[0].float()
    if not torch.allclose(found, wanted, rtol=1e-2, atol=1e-2 * float(wanted.abs().max())):
        raise ModelError(f"{type(inner).__name__} does more to its logits than its head; set attribution.flat=[]")
    return logits
