"""Planned steps as tensors: what Lightning iterates over, one batch an optimiser step with all its micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from dalign.ranks import ALONE, Ranks
from dalign.specs.stage import DistillStage
from dalign.train.examples import Example
from dalign.train.losses import completion_mask
from dalign.train.plan import MicroBatch, Plan, micro_batches


class Batch(NamedTuple):
    """Right-padded ids (B, T), and which of them the loss covers."""

    ids: Tensor
    mask: Tensor


class StepBatch(NamedTuple):
    """One optimiser step: its number from 0, this process's micro-batches, and of the whole step the completion tokens
    (the loss's divisor) and all tokens."""

    step: int
    parts: tuple[Batch, ...]
    completion_tokens: int
    tokens: int


def collate(micro: MicroBatch, examples: Sequence[Example], pad_id: int) -> Batch:
    """The rows of a micro-batch, padded on the right to its width."""
    rows = [examples[i] for i in micro.rows]
    ids_BT = torch.full((len(rows), micro.width), pad_id, dtype=torch.long)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row.ids)] = torch.tensor(row.ids)
    starts = torch.tensor([row.completion_start for row in rows])
    lengths = torch.tensor([len(row.ids) for row in rows])
    return Batch(ids_BT, completion_mask(starts, lengths, micro.width))


class Batches:
    """Turns indices of ``examples`` into batches of few shapes, a step's into those of this process's share."""

    def __init__(
        self, examples: Sequence[Example], stage: DistillStage, ranks: Ranks = ALONE, *, context: int, pad_id: int
    ) -> None:
        self.examples, self.stage, self.context, self.pad_id = examples, stage, context, pad_id
        self.ranks = ranks
        self._lengths = [len(e.ids) for e in examples]

    def of(self, rows: Sequence[int]) -> tuple[Batch, ...]:
        """The micro-batches of ``rows``, widest first."""
        micros = micro_batches(
            rows,
            self._lengths,
            bucket=self.stage.bucket,
            max_tokens=self.stage.micro_batch_tokens,
            context=self.context,
        )
        return tuple(collate(micro, self.examples, self.pad_id) for micro in micros)

    def step(self, number: int, rows: Sequence[int]) -> StepBatch:
        """Optimiser step ``number`` over ``rows``."""
        completion = sum(self.examples[i].completion_tokens for i in rows)
        mine = [rows[k] for k in self.ranks.mine([self._lengths[i] for i in rows])]
        return StepBatch(number, self.of(mine), completion, sum(self._lengths[i] for i in rows))


class Source(Protocol):
    """Makes the batch of optimiser step ``number`` of the indices ``rows``."""

    def step(self, number: int, rows: Sequence[int]) -> Any: ...


S = TypeVar("S", bound=Source)


class PlannedSteps(Generic[S]):
    """The plan as a loader that starts at step ``done``, which Lightning saves and restores with its checkpoints.

    ``done`` is set by the module when a step is finished: Lightning fetches ahead, so the loader cannot count.
    """

    def __init__(self, batches: S, plan: Plan) -> None:
        self.batches, self.plan, self.done = batches, plan, 0

    def __len__(self) -> int:
        return len(self.plan.steps)

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.done, len(self.plan.steps)):
            yield self.batches.step(number, self.plan.steps[number])

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]
