"""The loss of completions, as sums: whoever takes a mean divides by the tokens of the whole optimiser step.

Logits are made at completion positions only, a chunk at a time, and remade in the backward pass: a vocabulary of
150,000 over 4,096 positions is 2.5 GB in float32, three times over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
    loss = states_BTD.new_zeros((), dtype=torch.promote_types(states_BTD.dtype, torch.float32))
    correct = torch.zeros((), dtype=torch.long, device=ids_BT.device)
    for states, targets in zip(states_KD.split(chunk), targets_K.split(chunk), strict=True):
        if torch.is_grad_enabled() and len(states_KD) > chunk:
            part, hits = checkpoint(_chunk_sums, states, targets, head, use_reentrant=False)
        else:
            part, hits = _chunk_sums(states, targets, head)
        loss, correct = loss + part, correct + hits
    return Sums(loss, correct, len(targets_K))


def _chunk_sums(states_KD: Tensor, targets_K: Tensor, head: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    logits_KV = head(states_KD)
    logits_KV = logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32))
    loss = functional.cross_entropy(logits_KV, targets_K, reduction="sum")
    return loss, (logits_KV.detach().argmax(-1) == targets_K).sum()
