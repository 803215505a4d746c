"""LitProbe: a linear classifier a layer over the base's frozen states, unsafe against safe, out of fold by group.

Every fold's probe and the one fitted on everything are separate convex problems, solved together: one Lightning batch
is a layer, L-BFGS in float64 its step. So the result depends on no learning rate, seed or batch order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from dalign.errors import ArtifactError, DataError
from dalign.files import replace_file
from dalign.report.metrics import pooled_auroc
from dalign.specs.stage import ProbeStage, TrainerSpec
from dalign.store import progress_bar
from dalign.train.folds import group_folds
from dalign.train.trainer import Progress, fit, settle

CONVERGED = 1e-4  # largest gradient component of a layer's problems; probabilities are then off by about as much


@dataclass(frozen=True)
class Probe:
    """A probe a layer: ``sigmoid(w · (x - mean) / std + b)`` is P(unsafe). Float32, (L+1, D) and (L+1,)."""

    weights_LD: Tensor
    bias_L: Tensor
    mean_LD: Tensor
    std_LD: Tensor

    def unsafe(self, states_XLD: Tensor) -> Tensor:
        """P(unsafe) at each layer, (X, L+1); NaN where the states are."""
        scaled_XLD = (states_XLD - self.mean_LD) / self.std_LD
        return torch.sigmoid(torch.einsum("xld,ld->xl", scaled_XLD, self.weights_LD) + self.bias_L)

    def save(self, path: Path) -> None:
        """Writes safetensors, all or nothing."""
        tensors = {"weights": self.weights_LD, "bias": self.bias_L, "mean": self.mean_LD, "std": self.std_LD}
        replace_file(path, lambda to: save_file({k: t.contiguous() for k, t in tensors.items()}, to, {"schema": "1"}))

    @classmethod
    def load(cls, path: Path) -> Probe:
        """Reads what ``save`` wrote. Raises ``ArtifactError`` for another file."""
        try:
            tensors = load_file(path)
            return cls(tensors["weights"], tensors["bias"], tensors["mean"], tensors["std"])
        except Exception as error:
            raise ArtifactError(f"{path}: not a probe ({type(error).__name__}: {error}); run stage=probe") from error


@dataclass(frozen=True)
class FittedProbe:
    """``oof_XL``: P(unsafe) of each row by the probe of its fold, which saw nothing of its group; NaN without states.

    ``probe`` is fitted on every labelled row, for new ones. ``residual_L`` is the largest gradient left at a layer.
    """

    probe: Probe
    oof_XL: NDArray[np.float64]
    fold_X: NDArray[np.int64]
    labels_X: NDArray[np.float64]
    groups: tuple[str, ...]
    residual_L: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Writes the probe that was fitted on everything."""
        self.probe.save(path)

    def summary(self) -> dict[str, Any]:
        """Counts, and the out-of-fold AUROC at each layer: pooled, and the mean within groups that have both labels."""
        known = ~np.isnan(self.labels_X) & ~np.isnan(self.oof_XL[:, 0])
        unsafe = self.labels_X == 1
        rows_of = [np.array([g == name for g in self.groups]) for name in sorted(set(self.groups))]
        within = [[_auroc(scores_X, unsafe, known & rows) for rows in rows_of] for scores_X in self.oof_XL.T]
        found = [[a for a in layer if a is not None] for layer in within]
        return {
            "samples": len(self.labels_X),
            "unsafe": int((known & unsafe).sum()),
            "safe": int((known & ~unsafe).sum()),
            "without_label": int(np.isnan(self.labels_X).sum()),
            "without_states": int(np.isnan(self.oof_XL[:, 0]).sum()),
            "fold_sizes": np.bincount(self.fold_X).tolist(),
            "auroc_pooled": [_auroc(scores_X, unsafe, known) for scores_X in self.oof_XL.T],
            "auroc_within_group": [float(np.mean(layer)) if layer else None for layer in found],
            "groups_with_both": len(found[0]),
            "unconverged_layers": np.flatnonzero(self.residual_L > CONVERGED).tolist(),
        }


def _auroc(scores_X: NDArray[np.float64], unsafe: NDArray[np.bool_], of: NDArray[np.bool_]) -> float | None:
    return pooled_auroc(scores_X[None], unsafe[None], of[None])


class LayerLoader:
    """Yields (layer, states (X, D) in float64), one layer at a time: float64 of all at once would not fit in memory."""

    def __init__(self, states_XLD: Tensor) -> None:
        self.states_XLD = states_XLD

    def __len__(self) -> int:
        return self.states_XLD.shape[1]

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for layer in range(len(self)):
            yield layer, self.states_XLD[:, layer].double()


class LitProbe(LightningModule):
    """Logistic probes, one a (layer, problem): ``members_FX`` says which rows each of the F problems is fitted on.

    Minimises the mean loss over a problem's rows plus ``l2 / 2`` times the squared norm of its weights (not the bias),
    on states standardised by the mean and deviation of those rows alone.
    """

    def __init__(self, states_XLD: Tensor, labels_X: Tensor, members_FX: Tensor, stage: ProbeStage) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.loader, self.stage = LayerLoader(states_XLD), stage
        self.register_buffer("labels_X", labels_X.double())
        self.register_buffer("share_FX", members_FX.double() / members_FX.sum(1, keepdim=True))
        problems, layers, width = len(members_FX), states_XLD.shape[1], states_XLD.shape[2]
        self.weights = nn.ParameterList(torch.zeros(problems, width, dtype=torch.float64) for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(problems, dtype=torch.float64) for _ in range(layers))
        self.moments: list[tuple[Tensor, Tensor]] = []
        self.logits_LFX: list[Tensor] = []
        self.residual_L: list[float] = []

    def train_dataloader(self) -> LayerLoader:
        return self.loader

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One L-BFGS a layer, at most ``stage.steps`` iterations each."""
        return [
            torch.optim.LBFGS(
                [weights, bias],
                max_iter=self.stage.steps,
                max_eval=2 * self.stage.steps,
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
        mean_FD = self.share_FX @ states_XD
        variance_FD = (self.share_FX @ states_XD.square() - mean_FD.square()).clamp(min=0)
        still = variance_FD <= 1e-12 * mean_FD.square()  # a state that never varies is left at 0, not blown up
        std_FD = variance_FD.sqrt().masked_fill(still, 1.0)
        weights_FD, bias_F = self.weights[layer], self.biases[layer]

        def logits() -> Tensor:
            scaled_FD = weights_FD / std_FD
            return scaled_FD @ states_XD.T + (bias_F - (scaled_FD * mean_FD).sum(1))[:, None]

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits_FX = logits()
            loss_FX = functional.softplus(logits_FX) - logits_FX * self.labels_X
            loss = (loss_FX * self.share_FX).sum() + self.stage.l2 / 2 * weights_FD.square().sum()
            loss.backward()
            return loss

        optimizer: Any = self.optimizers()[layer]
        optimizer.step(closure)
        closure()
        self.residual_L.append(float(max(weights_FD.grad.abs().max(), bias_F.grad.abs().max())))
        optimizer.optimizer.state.clear()  # the history of a solved layer is dead weight
        self.moments.append((mean_FD, std_FD))
        self.logits_LFX.append(logits().detach())


def train_probe(
    states_XLD: Tensor,
    labels_X: NDArray[np.float64],
    groups: Sequence[str],
    stage: ProbeStage,
    *,
    seed: int,
    trainer: TrainerSpec,
) -> FittedProbe:
    """Fits the probes and scores every row out of fold.

    ``states_XLD`` float32 (X, L+1, D), NaN in rows that have none; ``labels_X`` 1 unsafe, 0 safe, NaN unscored: such
    rows are not trained on, yet scored by their group's fold. Raises ``DataError`` for fewer groups than folds, or a
    problem that has one label only.
    """
    settle(trainer, seed)
    fold_X = group_folds(groups, stage.folds, seed=seed)
    missing = states_XLD.isnan().flatten(1).any(1)
    usable = ~missing.numpy() & ~np.isnan(labels_X)
    members_FX = np.stack([*(usable & (fold_X != f) for f in range(stage.folds)), usable])
    _require_both_labels(members_FX, labels_X, stage.folds)
    whole_XLD = states_XLD.masked_fill(missing[:, None, None], 0.0)
    labels = torch.from_numpy(np.nan_to_num(labels_X))
    module = LitProbe(whole_XLD, labels, torch.from_numpy(members_FX), stage)
    layers = states_XLD.shape[1]
    with progress_bar("probe, by layer") as report:
        fit(module, trainer, device=states_XLD.device, max_steps=layers, callbacks=[Progress(report, layers)])
    logits_LFX = torch.stack(module.logits_LFX).cpu()
    oof_XL = torch.sigmoid(logits_LFX[:, torch.from_numpy(fold_X), torch.arange(len(fold_X))]).T.numpy()
    oof_XL[missing.numpy()] = np.nan
    return FittedProbe(
        _last(module), oof_XL, fold_X, labels_X, tuple(groups), np.array(module.residual_L, dtype=np.float64)
    )


def _last(module: LitProbe) -> Probe:
    """The problem fitted on everything, which stands after the folds'."""
    moments = [(mean_FD[-1], std_FD[-1]) for mean_FD, std_FD in module.moments]
    columns = (
        [weights[-1].detach() for weights in module.weights],
        [bias[-1].detach() for bias in module.biases],
        [mean for mean, _ in moments],
        [std for _, std in moments],
    )
    return Probe(*(torch.stack(column).float().cpu() for column in columns))


def _require_both_labels(members_FX: NDArray[np.bool_], labels_X: NDArray[np.float64], folds: int) -> None:
    for f, members in enumerate(members_FX):
        unsafe, safe = int((labels_X[members] == 1).sum()), int((labels_X[members] == 0).sum())
        if unsafe == 0 or safe == 0:
            where = f"outside fold {f + 1} of stage.folds={folds}" if f < folds else "in all"
            raise DataError(
                f"{where}: {unsafe} unsafe and {safe} safe samples with states; a probe needs both. "
                "Judge more samples (sampler.n, limit, more benchmarks), or take fewer folds"
            )
