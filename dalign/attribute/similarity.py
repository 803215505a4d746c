"""Scores with layers: how alike the student's and the base's hidden states are, and where in a response they are read.

What compares is a pure function of two (B, L, D) tensors; a line in ``LAYERED_SCORES`` makes it a score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dalign.attribute.pairs import Readout


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


def distance(student_PLD: Tensor, base_PLD: Tensor) -> Tensor:
    """``||h_FT[l] - h_base[l]||`` in float32, shape (P, L); exactly 0 for equal vectors, so layer 0 is a placebo too.

    Unlike the cosine it grows with the states, so it compares responses at one layer, not layers.
    """
    return (student_PLD.float() - base_PLD.float()).norm(dim=-1)


@dataclass(frozen=True)
class LayeredScore:
    """``compare`` makes (P, L) of the student's and the base's states (P, L, D), which are read at ``readout``; None is
    where ``attribution.position`` says."""

    compare: Callable[[Tensor, Tensor], Tensor]
    readout: Readout | None = None


LAYERED_SCORES: dict[str, LayeredScore] = {
    "similarity": LayeredScore(latent_similarity),
    "distance": LayeredScore(distance),
    "similarity_mean": LayeredScore(latent_similarity, "mean"),
    "similarity_think": LayeredScore(latent_similarity, "think"),
    "similarity_answer": LayeredScore(latent_similarity, "answer"),
}
