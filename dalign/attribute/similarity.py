"""Latent similarity: the cosine between the student's and the base's hidden states, layer by layer (pure functions)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def latent_similarity(student_PLD: Tensor, base_PLD: Tensor) -> Tensor:
    """``cos(h_FT[l], h_base[l])`` in float32, shape (P, L), in [-1, 1] (the paper's latent similarity).

    Equal vectors give exactly 1.0: rounding would tell apart pairs whose states are the same, and the placebo (layer 0,
    where embeddings are untouched) would no longer be random selection. Against a zero vector it is 0.
    """
    student, base = student_PLD.float(), base_PLD.float()
    dot = (student * base).sum(-1)
    norms = student.norm(dim=-1) * base.norm(dim=-1)
    cosine = (dot / norms.clamp(min=torch.finfo(torch.float32).tiny)).clamp(-1.0, 1.0)
    return torch.where((student == base).all(-1), torch.ones_like(cosine), cosine)


LAYERED_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"similarity": latent_similarity}
