"""Log-probabilities of completion tokens under a policy, with gradients, logits made for a chunk at a time.

Position t's token is predicted by the state before it, and the logits are divided by the sampling temperature: these
are the probabilities the token was drawn with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class TokenLogp(NamedTuple):
    """(B, T), 0 where the mask is 0: log-probabilities in nats, and entropies of the distributions (no gradient)."""

    logp: Tensor
    entropy: Tensor


def token_logp(
    states_BTD: Tensor,
    ids_BT: Tensor,
    mask_BT: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    temperature: float,
    chunk: int,
) -> TokenLogp:
    """Of the tokens under ``mask``. ``head`` maps states (K, D) to logits (K, V), at most ``chunk`` positions at a
    time, which are remade in the backward pass. A token at position 0 has no state before it: masking it in is a
    ``ValueError``."""
    if bool(mask_BT[:, 0].any()):
        raise ValueError("position 0 cannot be predicted; a completion starts after at least one prompt token")
    targets_K = ids_BT[:, 1:][mask_BT[:, 1:]]
    states_KD = states_BTD[:, :-1][mask_BT[:, 1:]]
    logp, entropy = [], []
    for states, targets in zip(states_KD.split(chunk), targets_K.split(chunk), strict=True):
        if torch.is_grad_enabled() and len(states_KD) > chunk:
            part = checkpoint(_chunk, states, targets, head, temperature, use_reentrant=False)
        else:
            part = _chunk(states, targets, head, temperature)
        logp.append(part[0])
        entropy.append(part[1])
    wide = torch.promote_types(states_BTD.dtype, torch.float32)
    zeros_BT = torch.zeros(ids_BT.shape, dtype=wide, device=ids_BT.device)
    if not logp:
        return TokenLogp(zeros_BT, zeros_BT)
    return TokenLogp(
        zeros_BT.masked_scatter(mask_BT, torch.cat(logp)), zeros_BT.masked_scatter(mask_BT, torch.cat(entropy))
    )


def _chunk(
    states_KD: Tensor, targets_K: Tensor, head: Callable[[Tensor], Tensor], temperature: float
) -> tuple[Tensor, Tensor]:
    logits_KV = head(states_KD)
    logits_KV = logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32)) / temperature
    logp_KV = logits_KV.log_softmax(-1)
    with torch.no_grad():
        entropy_K = -(logp_KV.exp() * logp_KV).sum(-1)
    return logp_KV.gather(-1, targets_K[:, None])[:, 0], entropy_K
