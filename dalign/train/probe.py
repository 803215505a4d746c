"""Probes, fitted and kept: a linear classifier a layer, unsafe against safe, out of fold by group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from dalign.errors import ArtifactError, DataError
from dalign.files import replace_file
from dalign.report.metrics import pooled_auroc
from dalign.specs.probe import Fit
from dalign.specs.stage import ProbeStage, TrainerSpec
from dalign.store import progress_bar
from dalign.train.conditional import pack
from dalign.train.direction import Direction
from dalign.train.features import Features
from dalign.train.folds import group_folds
from dalign.train.litprobe import LitProbe, Problems
from dalign.train.rows import Rows
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

    ``probe`` is fitted on every labelled row, for new ones. ``residual_L`` is the largest gradient left at a layer. A
    ``Direction`` saw no label: its scores are projections, and folds divide the rows for comparisons alone.
    """

    probe: Probe | Direction
    oof_XL: NDArray[np.float64]
    fold_X: NDArray[np.int64]
    rows: Rows
    residual_L: NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Writes the probe that was fitted on everything."""
        self.probe.save(path)

    def summary(self) -> dict[str, Any]:
        """Counts, and the out-of-fold AUROC at each layer: pooled, and the mean within groups that have both labels."""
        labels_X, groups = self.rows.labels_X, self.rows.groups
        known = ~np.isnan(labels_X) & ~np.isnan(self.oof_XL[:, 0])
        unsafe = labels_X == 1
        rows_of = [np.array([g == name for g in groups]) for name in sorted(set(groups))]
        within = [[_auroc(scores_X, unsafe, known & rows) for rows in rows_of] for scores_X in self.oof_XL.T]
        found = [[a for a in layer if a is not None] for layer in within]
        return {
            "samples": len(labels_X),
            "unsafe": int((known & unsafe).sum()),
            "safe": int((known & ~unsafe).sum()),
            "without_label": int(np.isnan(labels_X).sum()),
            "without_states": int(np.isnan(self.oof_XL[:, 0]).sum()),
            "fold_sizes": np.bincount(self.fold_X).tolist(),
            "auroc_pooled": [_auroc(scores_X, unsafe, known) for scores_X in self.oof_XL.T],
            "auroc_within_group": [float(np.mean(layer)) if layer else None for layer in found],
            "groups_with_both": len(found[0]),
            "unconverged_layers": self.unconverged_layers,
        }

    @property
    def unsafe_XL(self) -> NDArray[np.float64]:  # noqa: N802
        """The scores turned so that they rise with what is unsafe: a direction points at refusal."""
        return -self.oof_XL if isinstance(self.probe, Direction) else self.oof_XL

    @property
    def unconverged_layers(self) -> list[int]:
        return np.flatnonzero(self.residual_L > CONVERGED).tolist()


def _auroc(scores_X: NDArray[np.float64], unsafe: NDArray[np.bool_], of: NDArray[np.bool_]) -> float | None:
    return pooled_auroc(scores_X[None], unsafe[None], of[None])


def train_probe(
    features: Features, rows: Rows, stage: ProbeStage, *, method: Fit = "logistic", seed: int, trainer: TrainerSpec
) -> FittedProbe:
    """Fits the probes and scores every row out of fold.

    Rows without a label are not trained on, yet scored by their group's fold. Raises ``DataError`` for fewer groups
    than folds, or a problem that has one label only (for ``conditional``, no prompt with both).
    """
    settle(trainer, seed)
    fold_X = group_folds(rows.groups, stage.folds, seed=seed)
    missing = features.missing.numpy()
    usable = ~missing & ~np.isnan(rows.labels_X)
    members_FX = np.stack([*(usable & (fold_X != f) for f in range(stage.folds)), usable])
    for f, members_X in enumerate(members_FX):
        where = f"outside fold {f + 1} of stage.folds={stage.folds}" if f < stage.folds else "in all"
        if lack := lacking(rows, members_X, method):
            raise DataError(
                f"{where}: {lack}. Judge more samples (sampler.n, limit, more benchmarks), or take fewer folds"
            )
    module = _solved(features, rows, members_FX, stage, method, trainer)
    logits_LFX = torch.stack(module.logits_LFX).cpu()
    oof_XL = torch.sigmoid(logits_LFX[:, torch.from_numpy(fold_X), torch.arange(len(fold_X))]).T.numpy()
    oof_XL[missing] = np.nan
    return FittedProbe(_last(module), oof_XL, fold_X, rows, np.array(module.residual_L, dtype=np.float64))


def projected(features: Features, rows: Rows, direction: Direction, *, folds: int, seed: int) -> FittedProbe:
    """The projection of every row on a direction that was learnt from other prompts; folds as those of fitted probes.
    Raises ``DataError`` for fewer groups than folds."""
    fold_X = group_folds(rows.groups, folds, seed=seed)
    return FittedProbe(direction, direction.project_features(features), fold_X, rows, np.zeros(features.layers))


def leave_benchmarks_out(
    features: Features, rows: Rows, stage: ProbeStage, *, method: Fit = "logistic", seed: int, trainer: TrainerSpec
) -> NDArray[np.float64]:
    """P(unsafe) of each row at each layer, (X, L+1), by a probe that saw nothing of its benchmark nor of any group
    with a row in it. NaN where such a probe would have one label only, and everywhere with a single benchmark."""
    settle(trainer, seed)
    missing = features.missing.numpy()
    usable = ~missing & ~np.isnan(rows.labels_X)
    benchmark_X, group_X = np.array(rows.benchmarks), np.array(rows.groups)
    scored, members = [], []
    for name in dict.fromkeys(rows.benchmarks):
        own = benchmark_X == name
        others = usable & ~np.isin(group_X, group_X[own])
        if not lacking(rows, others, method):
            scored.append(own)
            members.append(others)
    out_XL = np.full((len(rows), features.layers), np.nan)
    if not scored:
        return out_XL
    module = _solved(features, rows, np.stack(members), stage, method, trainer)
    unsafe_LFX = torch.sigmoid(torch.stack(module.logits_LFX)).cpu().numpy()
    for problem, own in enumerate(scored):
        out_XL[own] = unsafe_LFX[:, problem, own].T
    out_XL[missing] = np.nan
    return out_XL


def lacking(rows: Rows, members_X: NDArray[np.bool_], method: Fit) -> str:
    """What rows to fit on lack, in words; empty where nothing."""
    unsafe, safe = int((rows.labels_X[members_X] == 1).sum()), int((rows.labels_X[members_X] == 0).sum())
    if unsafe == 0 or safe == 0:
        return f"{unsafe} unsafe and {safe} safe samples with states; a probe needs both"
    if method == "conditional" and not len(pack(rows.prompts, rows.labels_X, members_X).index_PN):
        return "no prompt has both unsafe and safe samples; stage.methods=[conditional] compares these"
    return ""


def _solved(
    features: Features, rows: Rows, members_FX: NDArray[np.bool_], stage: ProbeStage, method: Fit, spec: TrainerSpec
) -> LitProbe:
    labels_X = torch.from_numpy(np.nan_to_num(rows.labels_X))
    packed = pack(rows.prompts, rows.labels_X, np.asarray(members_FX.any(axis=0)))
    module = LitProbe(features, Problems(labels_X, torch.from_numpy(members_FX), packed, method, stage.l2, stage.steps))
    with progress_bar("probe, by layer") as report:
        device, layers = features.states_RLD.device, features.layers
        fit(module, spec, device=device, max_steps=layers, callbacks=[Progress(report, layers)])
    return module


def _last(module: LitProbe) -> Probe:
    """The problem fitted on everything, which stands after the folds'."""
    columns = (
        [weights_FD[-1] for weights_FD, _ in module.solved],
        [bias_F[-1] for _, bias_F in module.solved],
        [mean_FD[-1] for mean_FD, _ in module.moments],
        [std_FD[-1] for _, std_FD in module.moments],
    )
    return Probe(*(torch.stack(column).float().cpu() for column in columns))
