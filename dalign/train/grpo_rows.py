"""What a GRPO step and a validation tell: rewards, lengths, dead groups, entropy, clipping, the engine's distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean

from dalign.ranks import ALONE, Ranks
from dalign.train.advantages import total_rewards
from dalign.train.grpo_batch import Judged, Micro, reward_parts
from dalign.train.logp import TokenLogp
from dalign.train.policy_loss import PolicyLoss, StepSize
from dalign.train.rewards import Rewards, Values
from dalign.train.rollouts import Rollout

Figures = dict[str, float | int | None]


@dataclass
class StepSums:
    """Sums over the tokens that went through the model in one optimiser step. ``kl`` is None without a penalty,
    ``distance`` of |trainer - engine| log-probabilities, ``farthest`` the largest of these."""

    lr: float
    loss: float = 0.0
    grad_norm: float = 0.0
    tokens: int = 0
    kl: float | None = None
    entropy: float = 0.0
    clipped_low: int = 0
    clipped_high: int = 0
    distance: float = 0.0
    farthest: float = 0.0

    def add(self, taken: PolicyLoss, found: TokenLogp, part: Micro) -> None:
        """Takes in one micro-batch."""
        away_BT = ((found.logp.detach() - part.engine) * part.mask).abs()
        self.loss += float(taken.loss.detach())
        self.tokens += int(part.mask.sum())
        self.kl = None if self.kl is None else self.kl + float(taken.kl)
        self.entropy += float(found.entropy.sum())
        self.clipped_low += int(taken.clipped_low)
        self.clipped_high += int(taken.clipped_high)
        self.distance += float(away_BT.sum())
        self.farthest = max(self.farthest, float(away_BT.max()))

    @classmethod
    def over(cls, parts: Sequence[StepSums]) -> StepSums:
        """Of one optimiser step that several processes took together, each with its part."""
        if len(parts) == 1:
            return parts[0]
        out = cls(parts[0].lr, kl=None if parts[0].kl is None else fsum(part.kl or 0.0 for part in parts))
        for name in ("loss", "entropy", "distance"):
            setattr(out, name, fsum(getattr(part, name) for part in parts))
        for name in ("tokens", "clipped_low", "clipped_high"):
            setattr(out, name, sum(getattr(part, name) for part in parts))
        out.farthest = max(part.farthest for part in parts)
        return out


def step_row(first: Judged, judged: Judged, sums: Sequence[StepSums], size: StepSize) -> Figures:
    """The figures of a step: rewards, lengths and dead groups of the answers as first drawn, the rest of those learnt
    from. Means over tokens are over the rows that bore a gradient; None where there were none."""
    tokens = sum(s.tokens for s in sums)

    def share(total: float) -> float | None:
        return total / tokens if tokens else None

    return {
        "loss": fmean(s.loss for s in sums),
        **reward_means(first.parts, first.totals),
        **shapes(first.rollouts),
        "dead_groups": fmean(first.dead),
        "learnt_dead_groups": fmean(judged.dead),
        "unrewarded": fmean(total is None for total in first.totals),
        "entropy": share(sum(s.entropy for s in sums)),
        "kl": None if sums[0].kl is None else share(sum(s.kl or 0.0 for s in sums)),
        "clipped_low": share(sum(s.clipped_low for s in sums)),
        "clipped_high": share(sum(s.clipped_high for s in sums)),
        "engine_distance": sums[0].distance / sums[0].tokens if sums[0].tokens else None,
        "engine_farthest": sums[0].farthest,
        "grad_norm": sums[-1].grad_norm,
        "lr": sums[-1].lr,
        "tokens": size.tokens,
        "rows": size.rows,
    }


def answer_figures(rollouts: Sequence[Rollout], rewards: Rewards, ranks: Ranks = ALONE) -> Figures:
    """The figures of answers that nothing is learnt from."""
    parts = reward_parts(rollouts, rewards, ranks=ranks)
    return {**reward_means(parts, total_rewards(parts, rewards.weights)), **shapes(rollouts)}


def reward_means(parts: dict[str, Values], totals: Iterable[float | None]) -> Figures:
    """The mean of each reward over the answers it applies to, and of their weighted sums."""
    return {"reward": _mean(totals), **{f"reward/{name}": _mean(values) for name, values in parts.items()}}


def shapes(rollouts: Sequence[Rollout]) -> Figures:
    """Mean tokens of an answer, and the share that was cut off."""
    lengths = [len(r.ids) - r.start for r in rollouts]
    return {"length": fmean(lengths), "truncated": fmean(r.truncated for r in rollouts)}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
