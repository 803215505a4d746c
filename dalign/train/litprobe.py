"""LitProbe: all problems of a linear probe (folds, everything, benchmarks left out) at all layers, in one module.

The problems are separate and convex, and are solved together: one Lightning batch is a layer, L-BFGS in float64 its
step. So the result depends on no learning rate, seed or batch order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from dalign.specs.probe import Fit
from dalign.train.conditional import Packed, conditional_nll
from dalign.train.features import Features

BISECTIONS = 80


@dataclass(frozen=True)
class Problems:
    """What is fitted: ``labels_X`` 1 unsafe, 0 safe; ``members_FX`` the rows of each of F problems; the prompts with
    both labels, for the conditional loss."""

    labels_X: Tensor
    members_FX: Tensor
    packed: Packed
    method: Fit = "logistic"
    l2: float = 1e-2
    steps: int = 200


class LitProbe(LightningModule):
    """Linear probes, one a (layer, problem), on features standardised by the mean and deviation of the problem's rows.

    ``logistic`` minimises the mean log loss over a problem's rows plus ``l2 / 2`` times the squared norm of its weights
    (not the bias). ``class_means`` takes the difference of the two classes' means for its direction, scaled to unit
    deviation, and fits length and bias of it in the same way. ``conditional`` minimises the mean over prompts with both
    labels of ``conditional_nll``, under the same penalty; it knows no bias, so the one is added at which the mean
    probability is the share of unsafe rows.
    """

    def __init__(self, features: Features, problems: Problems) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.features, self.method, self.l2, self.steps = features, problems.method, problems.l2, problems.steps
        members_FX, packed = problems.members_FX, problems.packed
        self.register_buffer("labels_X", problems.labels_X.double())
        self.register_buffer("share_FX", members_FX.double() / members_FX.sum(1, keepdim=True))
        self.register_buffer("index_PN", packed.index_PN)
        self.register_buffer("exists_PN", packed.exists_PN)
        self.register_buffer("unsafe_PN", packed.unsafe_PN)
        in_FP = members_FX[:, packed.index_PN[:, 0]] if len(packed.index_PN) else members_FX[:, :0]
        self.register_buffer("share_FP", in_FP.double() / in_FP.sum(1, keepdim=True).clamp(min=1))
        width = 1 if problems.method == "class_means" else features.width
        shape = (len(members_FX), width)
        self.weights = nn.ParameterList(torch.zeros(shape, dtype=torch.float64) for _ in range(features.layers))
        self.biases = nn.ParameterList(torch.zeros(shape[0], dtype=torch.float64) for _ in range(features.layers))
        self.moments: list[tuple[Tensor, Tensor]] = []
        self.solved: list[tuple[Tensor, Tensor]] = []  # (F, D) weights on standardised features, (F,) biases
        self.logits_LFX: list[Tensor] = []
        self.residual_L: list[float] = []

    def train_dataloader(self) -> Features:
        return self.features

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One L-BFGS a layer, at most ``steps`` iterations each."""
        return [
            torch.optim.LBFGS(
                [weights, bias],
                max_iter=self.steps,
                max_eval=2 * self.steps,
                tolerance_grad=1e-7,
                tolerance_change=1e-14,
                history_size=20,
                line_search_fn="strong_wolfe",
            )
            for weights, bias in zip(self.weights, self.biases, strict=True)
        ]

    def training_step(self, batch: tuple[int, Tensor], batch_idx: int) -> None:
        """Solves all problems of one layer, and keeps their logits for every row."""
        layer, states_XD = batch
        mean_FD, std_FD, still_FD = self._moments(states_XD)
        parameters, bias_F = self.weights[layer], self.biases[layer]
        direction_FD = None
        if self.method == "class_means":
            direction_FD = self._direction(states_XD, mean_FD, std_FD.masked_fill(still_FD, torch.inf))

        def weights() -> Tensor:
            found: Tensor = parameters if direction_FD is None else parameters * direction_FD
            return found

        def logits() -> Tensor:
            scaled_FD = weights() / std_FD
            return scaled_FD @ states_XD.T + (bias_F - (scaled_FD * mean_FD).sum(1))[:, None]

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._loss(logits()) + self.l2 / 2 * parameters.square().sum()
            loss.backward()
            return loss

        every: Any = self.optimizers()
        optimizer = every[layer] if len(self.weights) > 1 else every  # Lightning gives a single one by itself
        optimizer.step(closure)
        closure()
        self.residual_L.append(float(max(parameters.grad.abs().max(), bias_F.grad.abs().max())))
        optimizer.optimizer.state.clear()  # the history of a solved layer is dead weight
        with torch.no_grad():
            if self.method == "conditional":
                bias_F += matching_bias(logits(), (self.share_FX * self.labels_X).sum(1), self.share_FX)
            self.moments.append((mean_FD, std_FD))
            self.solved.append((weights().clone(), bias_F.clone()))
            self.logits_LFX.append(logits())

    def _moments(self, states_XD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation of each problem's rows, (F, D), and where a feature never varies; its deviation is 1."""
        mean_FD = self.share_FX @ states_XD
        variance_FD = (self.share_FX @ states_XD.square() - mean_FD.square()).clamp(min=0)
        still_FD = variance_FD <= 1e-12 * mean_FD.square()  # a state that never varies is left at 0, not blown up
        return mean_FD, variance_FD.sqrt().masked_fill(still_FD, 1.0), still_FD

    def _direction(self, states_XD: Tensor, mean_FD: Tensor, std_FD: Tensor) -> Tensor:
        """Unsafe rows' mean less the safe ones', (F, D), on standardised features and scaled so that the projection of
        each problem's rows has unit deviation."""
        unsafe_FX, safe_FX = self.share_FX * self.labels_X, self.share_FX * (1 - self.labels_X)
        apart_FD = (unsafe_FX / unsafe_FX.sum(1, keepdim=True) - safe_FX / safe_FX.sum(1, keepdim=True)) @ states_XD
        direction_FD = apart_FD / std_FD
        scaled_FD = direction_FD / std_FD
        projected_FX = scaled_FD @ states_XD.T - (scaled_FD * mean_FD).sum(1)[:, None]
        spread_F = (self.share_FX * projected_FX.square()).sum(1).sqrt()
        return direction_FD / spread_F.masked_fill(spread_F == 0, 1.0)[:, None]

    def _loss(self, logits_FX: Tensor) -> Tensor:
        """The sum over problems of their mean losses."""
        if self.method == "conditional":
            nll_FP = conditional_nll(logits_FX[:, self.index_PN], self.unsafe_PN, self.exists_PN)
            return (nll_FP * self.share_FP).sum()
        loss_FX = functional.softplus(logits_FX) - logits_FX * self.labels_X
        return (loss_FX * self.share_FX).sum()


def matching_bias(logits_FX: Tensor, rate_F: Tensor, share_FX: Tensor) -> Tensor:
    """(F,) what to add to the logits so that their mean probability, by ``share_FX``, is ``rate_F`` (in (0, 1))."""
    widest = logits_FX.abs().max() + 40.0
    low_F, high_F = -widest.expand(len(rate_F)).clone(), widest.expand(len(rate_F)).clone()
    for _ in range(BISECTIONS):
        middle_F = (low_F + high_F) / 2
        under_F = (torch.sigmoid(logits_FX + middle_F[:, None]) * share_FX).sum(1) < rate_F
        low_F, high_F = torch.where(under_F, middle_F, low_F), torch.where(under_F, high_F, middle_F)
    return (low_F + high_F) / 2
