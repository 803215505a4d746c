"""Hidden states of pairs as features: the base's, the student's or both, at the place where they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dalign.attribute.hidden import Wanted
from dalign.attribute.pairs import Pair, Position, unscorable
from dalign.attribute.score import Readings, read_all
from dalign.models import LoadedModel
from dalign.specs.probe import Input, Pooling


def base_states(
    loaded: LoadedModel, pairs: Sequence[Pair], *, position: Position = "content", token_budget: int = 8192
) -> Tensor:
    """The base's states at the end of each pair, float32 (P, L+1, D) on the CPU: the features of the probe.

    Rows of pairs that are empty or longer than the context are NaN.
    """
    return read_states(loaded, pairs, position=position, token_budget=token_budget, student=False)[0]


def read_states(
    loaded: LoadedModel, pairs: Sequence[Pair], *, position: Position, token_budget: int, student: bool
) -> tuple[Tensor, Tensor | None]:
    """As ``base_states``, and with ``student`` the student's states of the same pairs in the same batches."""
    shape = (len(pairs), loaded.n_layers + 1, loaded.width)
    base = torch.full(shape, torch.nan)
    ours = torch.full(shape, torch.nan) if student else None
    todo = [i for i, pair in enumerate(pairs) if not unscorable(pair, position, loaded.context)]

    def write(at: Sequence[int], read: Readings) -> None:
        base[[todo[i] for i in at]] = read.base.ends_BLD.cpu()
        if ours is not None and read.student is not None:
            ours[[todo[i] for i in at]] = read.student.ends_BLD.cpu()

    wanted = Wanted(loaded.n_layers, (position,))
    read_all(loaded, [pairs[i] for i in todo], wanted, token_budget, write, student=student)
    return base, ours


def before_response(prompt_ids: tuple[int, ...]) -> Pair:
    """A pair whose states are those at the prompt's last token: the prompt before it, with that token behind it."""
    return Pair(prompt_ids[:-1], prompt_ids[-1:])


def state_of(base: Tensor, student: Tensor | None, wanted: Input) -> Tensor:
    """The states that an input names. Raises ``ValueError`` where the student's were not read."""
    if wanted == "base":
        return base
    if student is None:
        raise ValueError(f"input {wanted!r} needs the student's states")
    return student if wanted == "student" else student - base


def pooled_states(
    loaded: LoadedModel, pairs: Sequence[Pair], wanted: Input, pooling: Pooling, *, token_budget: int = 8192
) -> Tensor:
    """The features (P, L+1, D) that a probe of this input and pooling has of each pair; NaN where it has none."""
    read = [before_response(pair.prompt_ids) for pair in pairs] if pooling == "prompt" else pairs
    position: Position = "content" if pooling == "prompt" else pooling
    found = read_states(loaded, read, position=position, token_budget=token_budget, student=wanted != "base")
    return state_of(*found, wanted)
