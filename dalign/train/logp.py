"""Log-probabilities of completion tokens under a policy, with gradients, logits made for a chunk at a time.

A frozen head's part of the gradient is made with them, so that no logits outlive their chunk; those of a head that
learns are remade in the backward pass.
Position t's token is predicted by the state before it, and the logits are divided by the sampling temperature: these
are the probabilities the token was drawn with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dalign.train.losses import learns


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
    time. A token at position 0 has no state before it: masking it in is a
    ``ValueError``."""
    if bool(mask_BT[:, 0].any()):
        raise ValueError("position 0 cannot be predicted; a completion starts after at least one prompt token")
    targets_K = ids_BT[:, 1:][mask_BT[:, 1:]]
    states_KD = states_BTD[:, :-1][mask_BT[:, 1:]]
    logp, entropy = [], []
    if torch.is_grad_enabled() and len(states_KD) and not learns(head, states_KD):
        one, other = _WithGradient.apply(states_KD, targets_K, head, temperature, chunk)
        logp, entropy, states_KD, targets_K = [one], [other], states_KD[:0], targets_K[:0]
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


class _WithGradient(torch.autograd.Function):
    """Log-probabilities and entropies under a head that does not learn. A position's log-probability hangs on its own
    state alone: its gradient, made in the same pass, is scaled by what comes backwards."""

    @staticmethod
    def forward(
        ctx: Any,
        states_KD: Tensor,
        targets_K: Tensor,
        head: Callable[[Tensor], Tensor],
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        logp, entropy, grads = [], [], []
        for states, targets in zip(states_KD.split(chunk), targets_K.split(chunk), strict=True):
            with torch.enable_grad():
                leaf_KD = states.detach().requires_grad_()
                logits_KV = head(leaf_KD)
            found = _chunk_and_gradient(logits_KV.detach(), targets, temperature)
            logp.append(found[0])
            entropy.append(found[1])
            grads.extend(torch.autograd.grad(logits_KV, leaf_KD, found[2].to(logits_KV.dtype)))
        ctx.save_for_backward(torch.cat(grads))
        entropy_K = torch.cat(entropy)
        ctx.mark_non_differentiable(entropy_K)
        return torch.cat(logp), entropy_K

    @staticmethod
    def backward(ctx: Any, grad_K: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (own_KD,) = ctx.saved_tensors
        return (own_KD * grad_K[:, None]).to(own_KD.dtype), None, None, None, None


def _chunk_and_gradient(logits_KV: Tensor, targets_K: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """What ``_chunk`` gives, and the gradient of the log-probabilities' sum by the logits."""
    wide_KV = logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32))
    logp_KV = (wide_KV if temperature == 1.0 else wide_KV / temperature).log_softmax(-1)
    logp_K = logp_KV.gather(-1, targets_K[:, None])[:, 0]
    p_KV = logp_KV.exp()
    entropy_K = -torch.linalg.vecdot(p_KV, logp_KV)
    p_KV.neg_().scatter_add_(-1, targets_K[:, None], torch.ones_like(logp_K[:, None])).div_(temperature)
    return logp_K, entropy_K, p_KV
