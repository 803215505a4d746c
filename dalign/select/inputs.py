"""What a selector may know of samples: scores, lengths, texts, and whether they finished; there is no verdict in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dalign.select.rank import Bools, Floats


@dataclass(frozen=True)
class Until:
    """Which score says that a sample will do, and below which value of it."""

    score: str
    below: float


@dataclass(frozen=True)
class SelectorInput:
    """What a selector may know of P prompts with N samples each; there is no place for a verdict in it.

    ``scores`` maps a name to (P, N) or, by layer, (P, N, L); NaN is no score. ``lengths_PN`` counts response tokens.
    ``finished_PN`` says which samples ended by themselves with an answer, ``exists_PN`` which were drawn at all.
    ``answers`` are their texts, P rows of N, where they are known; ``until`` stops drawing, where something does.
    """

    scores: Mapping[str, Floats]
    lengths_PN: NDArray[np.int64]
    finished_PN: Bools
    exists_PN: Bools
    answers: Sequence[Sequence[str]] | None = None
    until: Until | None = None

    def __post_init__(self) -> None:
        shape = self.lengths_PN.shape
        others = {"finished_PN": self.finished_PN, "exists_PN": self.exists_PN}
        scores = {f"scores[{name!r}]": values for name, values in self.scores.items()}
        for name, values in {**others, **scores}.items():
            if len(shape) != 2 or values.shape[:2] != shape or values.ndim not in (2, 3):
                raise ValueError(f"{name} has shape {values.shape}, lengths_PN {shape}")
        if self.answers is not None and [len(row) for row in self.answers] != [shape[1]] * shape[0]:
            raise ValueError(f"answers are {[len(row) for row in self.answers][:3]} ... a prompt, lengths_PN {shape}")

    def eligible(self, require_finished: bool) -> Bools:
        """The samples that may be chosen (P, N)."""
        return self.exists_PN & self.finished_PN if require_finished else self.exists_PN

    @cached_property
    def overlap_PNN(self) -> Floats:  # noqa: N802
        """``word_overlap`` of each prompt's answers; raises ``ValueError`` where they are not known."""
        if self.answers is None:
            raise ValueError("the samples' answers are not known")
        return np.stack([word_overlap(row) for row in self.answers]) if self.answers else np.zeros((0, 0, 0))


def word_overlap(texts: Sequence[str]) -> Floats:
    """Of each two of N texts the words that both hold as a share of those that either does (Jaccard), (N, N); words are
    what stands between blanks, in lower case, each counted once. Two texts without words are alike: 1."""
    words = [set(text.casefold().split()) for text in texts]
    place = {word: i for i, word in enumerate(sorted(set().union(*words)))}
    holds_NV = np.zeros((len(texts), len(place)))
    for row, own in zip(holds_NV, words, strict=True):
        row[[place[word] for word in own]] = 1.0
    both_NN = holds_NV @ holds_NV.T
    size_N = holds_NV.sum(1)
    either_NN = size_N[:, None] + size_N[None] - both_NN
    return np.where(either_NN == 0, 1.0, both_NN / np.maximum(either_NN, 1.0))
