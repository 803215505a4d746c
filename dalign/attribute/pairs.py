"""What is scored and what comes back: a prompt's ids with a response's ids, and the scores of the two.

A pair is never cut: one that cannot be scored whole carries the reason instead of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Position = Literal["content", "eos", "mean"]
Readout = Literal["content", "eos", "mean", "think", "answer"]
NO_PLACE: dict[Readout, str] = {
    "think": "no closing tag: the reasoning has no end",
    "answer": "no answer: the response has no first answer token",
}


@dataclass(frozen=True)
class Pair:
    """The ids a response was drawn after, and the response without its stopping token.

    ``end_id`` is the token that ends the turn: appended for ``position="eos"`` alone, and counted by no likelihood.
    ``closed`` says of a response without a closing tag that none was expected: its answer begins at once.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    end_id: int | None = None
    closed: bool = False

    def tail(self, position: Position) -> tuple[int, ...]:
        """What follows the prompt: the response, for ``eos`` the turn's end too (``ValueError`` if unknown)."""
        if position != "eos":
            return self.response_ids
        if self.end_id is None:
            raise ValueError("position 'eos' reads the state at the turn's end, and this pair names no end_id")
        return (*self.response_ids, self.end_id)


@dataclass(frozen=True)
class PairScores:
    """Scores of one pair: ``layered`` one float a layer (0 the embeddings), ``flat`` one float.

    ``error`` is the reason why a pair has none; both maps are empty then. ``lacking`` says of a score that is NaN in a
    pair that has others why it is.
    """

    layered: dict[str, list[float]] = field(default_factory=dict)
    flat: dict[str, float] = field(default_factory=dict)
    error: str = ""
    lacking: dict[str, str] = field(default_factory=dict)


def unscorable(pair: Pair, position: Position, context: int) -> str:
    """Why a pair cannot be scored by a model of ``context`` tokens; empty if it can."""
    if not pair.prompt_ids:
        return "empty prompt: the first response token has no distribution"
    if not pair.response_ids:
        return "empty response: there is nothing to score"
    length = len(pair.prompt_ids) + len(pair.tail(position))
    if length > context:
        return f"{length} tokens, and the model's context is {context}: the pair is not cut"
    return ""
