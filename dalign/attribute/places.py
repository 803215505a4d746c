"""Where in each response the further readouts of its scores are: at the closing tag, at the first answer token.

A pair that lacks such a place has NaN there, and says why. Nothing is looked for that no score asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dalign.attribute.hidden import Wanted
from dalign.attribute.pairs import NO_PLACE, Pair, PairScores, Readout
from dalign.attribute.similarity import LAYERED_SCORES
from dalign.models import LoadedModel
from dalign.specs.sampling import AttributionSpec


def readouts_of(spec: AttributionSpec) -> tuple[Readout, ...]:
    """Every readout that the scores of ``spec`` need, ``spec.position`` first, each once."""
    asked = (LAYERED_SCORES[name].readout or spec.position for name in spec.layered)
    return tuple(dict.fromkeys((spec.position, *asked)))


@dataclass(frozen=True)
class Places:
    """``at`` maps a pair to its columns of the readouts ``told``, None where it has no such place."""

    told: tuple[Readout, ...]
    at: dict[Pair, tuple[int | None, ...]]

    @classmethod
    def of(cls, loaded: LoadedModel, pairs: Sequence[Pair], wanted: Wanted) -> Places:
        """The places of all pairs; the text of none is looked at where nothing needs it."""
        found: dict[Pair, tuple[int | None, ...]] = {}
        for pair in pairs if wanted.told else ():
            tag, answer = loaded.chat.places(pair.response_ids, closed=pair.closed)
            found[pair] = tuple({"think": tag, "answer": answer}[name] for name in wanted.told)
        return cls(wanted.told, found)

    def columns(self, pairs: Sequence[Pair], device: torch.device) -> tuple[Tensor, ...]:
        """The columns (B, K) of a batch's pairs, 0 where there is none; nothing at all without such readouts."""
        if not self.told:
            return ()
        return (torch.tensor([[at or 0 for at in self.at[pair]] for pair in pairs], device=device),)

    def without_missing(self, pair: Pair, scores: PairScores) -> PairScores:
        """``scores`` with NaN, and the reason, where the pair lacks the place that they were read at."""
        missing = {name for name, at in zip(self.told, self.at.get(pair, ()), strict=True) if at is None}
        if not missing:
            return scores
        lacking = {
            name: NO_PLACE[readout]
            for name in scores.layered
            if (readout := LAYERED_SCORES[name].readout) is not None and readout in missing
        }
        layered = {k: [float("nan")] * len(v) if k in lacking else v for k, v in scores.layered.items()}
        return replace(scores, layered=layered, lacking=lacking)
