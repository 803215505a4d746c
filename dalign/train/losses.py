"""The loss of completions, as sums: whoever takes a mean divides by the tokens of the whole optimiser step.

Logits are made at completion positions only, and a chunk at a time: a vocabulary of 150,000 over 4,096 positions is
2.5 GB in float32, three times over. A frozen head's gradient is made with the loss, chunk by chunk, so that no logits
outlive their chunk; those of a head that learns are remade in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Sums(NamedTuple):
    """Over completion tokens: the sum of their cross-entropies (nats), how many the argmax gets right, their number."""

    loss: Tensor
    correct: Tensor
    tokens: int


def completion_mask(starts_B: Tensor, lengths_B: Tensor, width: int) -> Tensor:
    """(B, width) bool: the positions ``starts <= t < lengths`` of right-padded rows."""
    t = torch.arange(width, device=starts_B.device)
    return (t >= starts_B[:, None]) & (t < lengths_B[:, None])


def completion_sums(
    states_BTD: Tensor, ids_BT: Tensor, mask_BT: Tensor, head: Callable[[Tensor], Tensor], *, chunk: int
) -> Sums:
    """Loss and hits of the tokens under ``mask``, each predicted from the state before it.

    ``head`` maps states (K, D) to logits (K, V), at most ``chunk`` positions at a time. A token at position 0 has no
    state before it: masking it in is a ``ValueError``.
    """
    if bool(mask_BT[:, 0].any()):
        raise ValueError("position 0 cannot be predicted; a completion starts after at least one prompt token")
    targets_K = ids_BT[:, 1:][mask_BT[:, 1:]]
    states_KD = states_BTD[:, :-1][mask_BT[:, 1:]]
    if not torch.is_grad_enabled() or len(states_KD) <= chunk:
        sums = _in_chunks(_chunk_sums, states_KD, targets_K, head, chunk)
    elif learns(head, states_KD):
        sums = _in_chunks(partial(checkpoint, _chunk_sums, use_reentrant=False), states_KD, targets_K, head, chunk)
    else:
        sums = _WithGradient.apply(states_KD, targets_K, head, chunk)
    return Sums(*sums, len(targets_K))


def _in_chunks(
    chunk_sums: Callable[..., tuple[Tensor, Tensor]],
    states_KD: Tensor,
    targets_K: Tensor,
    head: Callable[[Tensor], Tensor],
    chunk: int,
) -> tuple[Tensor, Tensor]:
    loss = states_KD.new_zeros((), dtype=torch.promote_types(states_KD.dtype, torch.float32))
    correct = torch.zeros((), dtype=torch.long, device=targets_K.device)
    for states, targets in zip(states_KD.split(chunk), targets_K.split(chunk), strict=True):
        part, hits = chunk_sums(states, targets, head)
        loss, correct = loss + part, correct + hits
    return loss, correct


def _chunk_sums(states_KD: Tensor, targets_K: Tensor, head: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    logits_KV = head(states_KD)
    logits_KV = logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32))
    loss = functional.cross_entropy(logits_KV, targets_K, reduction="sum")
    return loss, (logits_KV.detach().argmax(-1) == targets_K).sum()


def learns(head: Callable[[Tensor], Tensor], states_KD: Tensor) -> bool:
    """Whether logits lead back to anything but the states. Parameters do not tell: peft hides those of tied tokens."""
    return head(states_KD[:1].detach()).requires_grad


class _WithGradient(torch.autograd.Function):
    """The sums under a head that does not learn; the gradient of the states is made in the same pass."""

    @staticmethod
    def forward(
        ctx: Any, states_KD: Tensor, targets_K: Tensor, head: Callable[[Tensor], Tensor], chunk: int
    ) -> tuple[Tensor, Tensor]:
        grads: list[Tensor] = []
        buffers: list[Tensor] = []  # one for all chunks: fresh memory costs as much as what is computed in it

        def chunk_sums(states_KD: Tensor, targets_K: Tensor, head: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf_KD = states_KD.detach().requires_grad_()
                logits_KV = head(leaf_KD)
            if not buffers:
                buffers.append(torch.empty_like(logits_KV, dtype=torch.promote_types(logits_KV.dtype, torch.float32)))
            wide_KV = buffers[0][: len(logits_KV)].copy_(logits_KV.detach())
            loss_K, hits_K = _to_gradient_(wide_KV, targets_K)
            grads.extend(torch.autograd.grad(logits_KV, leaf_KD, wide_KV.to(logits_KV.dtype)))
            return loss_K.sum(), hits_K.sum()

        sums = _in_chunks(chunk_sums, states_KD, targets_K, head, chunk)
        ctx.save_for_backward(torch.cat(grads))
        ctx.mark_non_differentiable(sums[1])
        return sums

    @staticmethod
    def backward(ctx: Any, loss_grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (grad_KD,) = ctx.saved_tensors
        return grad_KD * loss_grad, None, None, None


def _to_gradient_(logits_KV: Tensor, targets_K: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropies and hits; turns ``logits`` into the gradient of the former's sum, in place."""
    target_K1 = targets_K[:, None]
    target_logit_K1 = logits_KV.gather(-1, target_K1)
    best_K1, at_K1 = logits_KV.max(-1, keepdim=True)
    torch.softmax(logits_KV, -1, out=logits_KV)
    log_sum_K1 = best_K1 - logits_KV.gather(-1, at_K1).log()
    logits_KV.scatter_add_(-1, target_K1, torch.full_like(best_K1, -1.0))
    return log_sum_K1 - target_logit_K1, at_K1 == target_K1
