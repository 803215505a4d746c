"""What is known of each sample that a probe learns from or scores, as columns of equal length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """X samples. ``labels_X`` is 1 unsafe, 0 safe, NaN for none. Samples of one ``prompts`` entry answer one prompt,
    and lie in one of ``groups``, which no fit divides; ``benchmarks`` is "" for an answer from a file alone. ``texts``
    are reasoning and answer, ``finished`` whether it ended by itself."""

    labels_X: Floats
    groups: tuple[str, ...]
    prompts: tuple[str, ...]
    benchmarks: tuple[str, ...]
    prompt_ids: tuple[tuple[int, ...], ...]
    response_ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    finished: tuple[bool, ...]

    def __post_init__(self) -> None:
        columns = {name: len(column) for name, column in vars(self).items()}
        if len(set(columns.values())) > 1:
            raise ValueError(f"columns of different length: {columns}")

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def lengths(self) -> Floats:
        """Response tokens."""
        return np.array([len(ids) for ids in self.response_ids], dtype=np.float64)
