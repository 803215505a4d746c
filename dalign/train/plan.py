"""The order of all optimiser steps, fixed before the first: to resume is to start at step k of the same plan.

Batches are padded on the right: under a causal mask no real token sees what follows it, positions start at 0, and the
loss picks its tokens by position. So no attention mask is needed, and padding changes no loss.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from dalign.records import digest
from dalign.specs.optimiser import OptimiserSpec
from dalign.train.examples import Example


@dataclass(frozen=True)
class MicroBatch:
    """Rows that go through the model together, padded to ``width`` tokens."""

    rows: tuple[int, ...]
    width: int


@dataclass(frozen=True)
class Plan:
    """``steps[k]`` are the indices of the examples of optimiser step k, ``epochs[k]`` is its epoch, from 0."""

    steps: tuple[tuple[int, ...], ...]
    epochs: tuple[int, ...]

    def digest(self, examples: Sequence[Example]) -> str:
        """A hash of the examples' ids and their order: equal plans train on the same tokens in the same steps."""
        return digest("plan", [[examples[i].ids for i in step] for step in self.steps])


def make_plan(n_examples: int, *, batch: int, epochs: int, max_steps: int | None, seed: int) -> Plan:
    """Each epoch is a permutation of its own, cut into steps of ``batch``; the last may be smaller, nothing is lost."""
    steps: list[tuple[int, ...]] = []
    epoch_of: list[int] = []
    for epoch in range(epochs):
        order = list(range(n_examples))
        random.Random(digest("epoch", seed, epoch)).shuffle(order)
        cut = [tuple(order[i : i + batch]) for i in range(0, n_examples, batch)]
        steps += cut
        epoch_of += [epoch] * len(cut)
    return Plan(tuple(steps[:max_steps]), tuple(epoch_of[:max_steps]))


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], *, bucket: int, max_tokens: int, context: int
) -> tuple[MicroBatch, ...]:
    """The step's ``rows`` in few shapes: widths are multiples of ``bucket`` (or ``context``), row counts powers of two.

    Longest first, each micro-batch as many rows as ``max_tokens`` padded tokens allow (one at least). ``lengths`` is
    indexed by row. Each new shape costs oneDNN seconds to compile in bfloat16.
    """
    left = sorted(rows, key=lambda row: (-lengths[row], row))
    out: list[MicroBatch] = []
    while left:
        width = min(math.ceil(lengths[left[0]] / bucket) * bucket, context)
        most = min(len(left), max(1, max_tokens // width))
        count = 1 << (most.bit_length() - 1)
        out.append(MicroBatch(tuple(left[:count]), width))
        left = left[count:]
    return tuple(out)


def learning_rate(stage: OptimiserSpec, step: int, total: int) -> float:
    """The rate of optimiser step ``step`` (from 0) of ``total``: linear warm-up over a share of them, then a schedule.

    ``linear`` and ``cosine`` fall towards 0, which the step after the last would reach.
    """
    warmup = round(stage.warmup * total)
    if step < warmup:
        return stage.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if stage.schedule == "linear":
        return stage.lr * (1 - progress)
    if stage.schedule == "cosine":
        return stage.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return stage.lr
