"""The refusal direction (Arditi et al. 2024, arXiv 2406.11717): where states of harmful and harmless prompts differ.

A difference of means at each layer, learnt from no verdict; a sample's score is its state's projection on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from dalign.errors import ArtifactError
from dalign.files import replace_file
from dalign.train.features import Features

STILL = 1e-6  # a difference below this share of the states' length is rounding


@dataclass(frozen=True)
class Direction:
    """A direction of unit length a layer, float32 (L+1, D); zeros where the two kinds of prompt do not differ."""

    direction_LD: Tensor

    def project(self, states_XLD: Tensor) -> Tensor:
        """How far each state goes along the direction, (X, L+1); NaN where the states are."""
        return torch.einsum("xld,ld->xl", states_XLD, self.direction_LD)

    def project_features(self, features: Features) -> NDArray[np.float64]:
        """The same of features, NaN where a sample has none."""
        columns = [values_XD @ self.direction_LD[layer].double() for layer, values_XD in features]
        scores_XL = torch.stack(columns, dim=1)
        return scores_XL.masked_fill(features.missing[:, None], torch.nan).numpy()

    def save(self, path: Path) -> None:
        """Writes safetensors, all or nothing."""
        tensors = {"direction": self.direction_LD.contiguous()}
        replace_file(path, lambda to: save_file(tensors, to, {"schema": "1"}))

    @classmethod
    def load(cls, path: Path) -> Direction:
        """Reads what ``save`` wrote. Raises ``ArtifactError`` for another file."""
        try:
            return cls(load_file(path)["direction"])
        except Exception as error:
            raise ArtifactError(
                f"{path}: not a refusal direction ({type(error).__name__}: {error}); run stage=probe with "
                "stage.methods=[refusal_direction]"
            ) from error


def refusal_direction(features: Features, harmful_X: NDArray[np.bool_]) -> Direction:
    """Harmful prompts' mean state less the harmless ones', by layer and of unit length, in float64. Prompts without
    states are left out; each kind must have one with."""
    there_X = ~features.missing
    harmful, harmless = (there_X & torch.from_numpy(kind_X) for kind_X in (harmful_X, ~harmful_X))
    rows = []
    for _, values_XD in features:
        apart_D = values_XD[harmful].mean(0) - values_XD[harmless].mean(0)
        length, size = apart_D.norm(), values_XD[there_X].norm(dim=1).mean()
        rows.append(apart_D / length if length > STILL * size else torch.zeros_like(apart_D))
    return Direction(torch.stack(rows).float())
