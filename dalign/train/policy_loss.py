"""Policy-gradient losses of completions, as sums over an optimiser step: pure functions, no model in sight.

A step's loss is the sum of what ``policy_loss`` gives for its micro-batches, each divided by numbers of the *whole*
step (``StepSize``), so that how the step is cut, or spread over processes, changes neither loss nor gradient. Only
``bnpo`` depends on the cut, by its definition. The variants are those of TRL 1.16.0, whose values the tests hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dalign.specs.grpo import LossSpec


class StepSize(NamedTuple):
    """Of a whole optimiser step, over all processes: rows with an active token, active tokens, and the most tokens
    that a completion may have (``dr_grpo`` divides by it)."""

    rows: int
    tokens: int
    max_tokens: int


class PolicyLoss(NamedTuple):
    """``loss``: this part's share of the step's. The others are sums over active tokens, without gradient: the KL
    estimate (0 without a reference) and how many ratios were clipped below and above."""

    loss: Tensor
    kl: Tensor
    clipped_low: Tensor
    clipped_high: Tensor


def policy_loss(
    logp_BT: Tensor,
    old_BT: Tensor,
    reference_BT: Tensor | None,
    advantages_B: Tensor,
    mask_BT: Tensor,
    spec: LossSpec,
    step: StepSize,
) -> PolicyLoss:
    """The loss of a micro-batch of a step.

    ``logp``, ``old`` and ``reference`` are log-probabilities (nats, at the sampling temperature) of the completion
    tokens under the policy, under the policy that is taken for the sampler's (no gradient), and under the reference
    (None only with ``spec.beta`` 0). ``mask`` is 1 at active tokens; what stands elsewhere counts for nothing, be it
    NaN. A batch without active tokens is a loss of 0 with zero gradients. Raises ``ValueError`` for a penalty without
    reference.
    """
    if spec.beta > 0 and reference_BT is None:
        raise ValueError("a KL penalty (beta above 0) needs the reference's log-probabilities")
    active_BT = mask_BT.bool()
    delta_BT = _at(active_BT, logp_BT) - _at(active_BT, old_BT).detach()
    if spec.name == "gspo":  # the sequence's ratio, with each token's gradient
        delta_BT = _mean(delta_BT, active_BT)[:, None].expand_as(delta_BT)
    ratio_BT, gain_B1 = delta_BT.exp(), advantages_B[:, None].to(logp_BT.dtype)
    low, high = 1 - spec.clip_low, 1 + spec.clip_high
    if spec.name == "cispo":
        weight_BT = ratio_BT.detach().clamp(max=spec.cispo_max)
        loss_BT = -weight_BT * gain_B1 * _at(active_BT, logp_BT)
        below_BT = torch.zeros_like(active_BT)
        above_BT = (ratio_BT > spec.cispo_max) & (gain_B1 > 0)
    else:
        loss_BT = -torch.minimum(ratio_BT * gain_B1, ratio_BT.clamp(low, high) * gain_B1)
        below_BT = (ratio_BT < low) & (gain_B1 < 0)
        above_BT = (ratio_BT > high) & (gain_B1 > 0)
    kl_BT = torch.zeros_like(loss_BT)
    if reference_BT is not None:
        kl_BT = _kl(_at(active_BT, logp_BT), _at(active_BT, reference_BT).detach(), _at(active_BT, old_BT), spec)
    if spec.beta > 0:
        loss_BT = loss_BT + spec.beta * kl_BT
    return PolicyLoss(
        _aggregate(loss_BT, active_BT, spec, step),
        (kl_BT.detach() * active_BT).sum(),
        (below_BT & active_BT).sum(),
        (above_BT & active_BT).sum(),
    )


def _aggregate(loss_BT: Tensor, active_BT: Tensor, spec: LossSpec, step: StepSize) -> Tensor:
    total = (loss_BT * active_BT).sum()
    rows, tokens = max(step.rows, 1), max(step.tokens, 1)
    if spec.name in ("grpo", "gspo"):
        return _mean(loss_BT, active_BT).sum() / rows
    if spec.name == "bnpo":
        return total / active_BT.sum().clamp(min=1) * (active_BT.any(dim=1).sum() / rows)
    if spec.name == "dr_grpo":
        return total / (rows * step.max_tokens)
    return total / tokens


def _kl(logp_BT: Tensor, reference_BT: Tensor, old_BT: Tensor, spec: LossSpec) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference), a token; ``ratio_k3`` weighs it by policy over old, without
    which its gradient is that of the other KL (arXiv 2512.21852)."""
    away_BT = reference_BT - logp_BT
    k3_BT = away_BT.exp() - away_BT - 1
    return k3_BT if spec.kl == "k3" else (logp_BT - old_BT.detach()).exp() * k3_BT


def _at(active_BT: Tensor, values_BT: Tensor) -> Tensor:
    """The values at active tokens, 0 elsewhere: no NaN of a masked token reaches a sum or a gradient."""
    return values_BT.masked_fill(~active_BT, 0.0)


def _mean(values_BT: Tensor, active_BT: Tensor) -> Tensor:
    """Each row's mean over its active tokens (B,); 0 for a row without any."""
    return (values_BT * active_BT).sum(dim=1) / active_BT.sum(dim=1).clamp(min=1)
