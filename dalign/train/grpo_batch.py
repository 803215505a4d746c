"""One GRPO step's answers as tensors: which rows bear a gradient, and what the whole step is divided by.

Every process has all answers and what they earned before the first backward pass, so that advantages (whatever they are
scaled by) and divisors are those of the whole step, and only the gradients are still to be added up.
A row without reward is in no baseline and in no divisor. One whose advantage is 0 counts in the divisors but has
neither loss nor gradient unless a KL penalty is on: it is not run through the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dalign.ranks import ALONE, Ranks
from dalign.specs.grpo import GrpoStage
from dalign.train.advantages import Advantages, group_advantages, total_rewards
from dalign.train.losses import completion_mask
from dalign.train.plan import micro_batches
from dalign.train.policy_loss import StepSize
from dalign.train.rewards import Rewards, Values
from dalign.train.rollouts import Rollout


class Micro(NamedTuple):
    """Right-padded ids (B, T), 1 at completion tokens, the engine's log-probabilities there, and advantages (B,)."""

    ids: Tensor
    mask: Tensor
    engine: Tensor
    advantages: Tensor

    def to(self, device: torch.device) -> Micro:
        """On another device."""
        return Micro(*(tensor.to(device) for tensor in self))


@dataclass(frozen=True)
class Judged:
    """The answers of a step with what they earned: ``parts`` by reward, ``totals`` their weighted sums (None: not in
    the loss)."""

    rollouts: tuple[Rollout, ...]
    parts: dict[str, Values]
    totals: tuple[float | None, ...]
    advantages: Advantages

    @property
    def dead(self) -> tuple[bool, ...]:
        return self.advantages.dead


def reward_parts(
    rollouts: Sequence[Rollout], rewards: Rewards, *, group: int = 1, ranks: Ranks = ALONE
) -> dict[str, Values]:
    """What each answer earns by each reward: every process has whole groups judged, and all learn of all."""

    def judged(groups: Sequence[Sequence[Rollout]]) -> list[dict[str, Values]]:
        some = [r for answers in groups for r in answers]
        parts = rewards.of([r.prompt for r in some], [r.sample for r in some])
        return [{name: values[i : i + group] for name, values in parts.items()} for i in range(0, len(some), group)]

    found = ranks.spread([rollouts[i : i + group] for i in range(0, len(rollouts), group)], judged)
    return {name: [value for parts in found for value in parts[name]] for name in found[0]}


def judge(rollouts: Sequence[Rollout], rewards: Rewards, stage: GrpoStage, ranks: Ranks = ALONE) -> Judged:
    """Rewards and advantages of whole groups of answers; a truncated one has no total where ``stage`` masks them."""
    parts = reward_parts(rollouts, rewards, group=stage.group, ranks=ranks)
    totals = total_rewards(parts, rewards.weights)
    if stage.truncated == "mask":
        totals = [None if r.truncated else total for r, total in zip(rollouts, totals, strict=True)]
    return Judged(tuple(rollouts), parts, tuple(totals), group_advantages(totals, stage.group, scale=stage.scale))


def step_size(judged: Judged, max_tokens: int) -> StepSize:
    """What the step's sums are divided by."""
    lengths = [len(r.ids) - r.start for r, known in zip(judged.rollouts, judged.advantages.known, strict=True) if known]
    return StepSize(len(lengths), sum(lengths), max_tokens)


def bearing(judged: Judged, stage: GrpoStage, ranks: Ranks = ALONE) -> list[int]:
    """The rows that bear a gradient; of those, whole groups to each process, so that all have about as many tokens."""
    pairs = zip(judged.advantages.known, judged.advantages.values, strict=True)
    live = [i for i, (known, value) in enumerate(pairs) if known and (value != 0.0 or stage.loss.beta > 0)]
    tokens = [0] * (len(judged.rollouts) // stage.group)
    for i in live:
        tokens[i // stage.group] += len(judged.rollouts[i].ids)
    mine = set(ranks.mine(tokens))
    return [i for i in live if i // stage.group in mine]


def micros(judged: Judged, stage: GrpoStage, *, context: int, pad_id: int, ranks: Ranks = ALONE) -> list[Micro]:
    """The rows that bear a gradient, this process's of them, longest first, in few shapes."""
    lengths, rows = [len(r.ids) for r in judged.rollouts], bearing(judged, stage, ranks)
    cut = micro_batches(rows, lengths, bucket=stage.bucket, max_tokens=stage.micro_batch_tokens, context=context)
    values = judged.advantages.values
    return [
        as_micro([judged.rollouts[i] for i in part.rows], [values[i] for i in part.rows], part.width, pad_id)
        for part in cut
    ]


def plain_micros(rollouts: Sequence[Rollout], stage: GrpoStage, *, pad_id: int) -> list[Micro]:
    """All answers in their order, of one width and without advantages: for figures that nothing is learnt from."""
    widest = max(len(r.ids) for r in rollouts)
    rows = max(stage.micro_batch_tokens // widest, 1)
    cut = [rollouts[i : i + rows] for i in range(0, len(rollouts), rows)]
    return [as_micro(some, [0.0] * len(some), widest, pad_id) for some in cut]


def as_micro(rollouts: Sequence[Rollout], advantages: Sequence[float], width: int, pad_id: int) -> Micro:
    """Answers as one micro-batch of ``width`` columns."""
    ids_BT = torch.full((len(rollouts), width), pad_id, dtype=torch.long)
    engine_BT = torch.zeros(len(rollouts), width)
    for b, rollout in enumerate(rollouts):
        ids_BT[b, : len(rollout.ids)] = torch.tensor(rollout.ids)
        engine_BT[b, rollout.start : len(rollout.ids)] = torch.tensor(rollout.logp)
    starts = torch.tensor([r.start for r in rollouts])
    lengths = torch.tensor([len(r.ids) for r in rollouts])
    return Micro(ids_BT, completion_mask(starts, lengths, width), engine_BT, torch.tensor(advantages))
