"""Runs a module under a Lightning trainer that writes nothing by itself: metrics, checkpoints, progress are ours."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins.io import CheckpointIO
from torch.utils import deterministic

from dalign.joining import require_as_many
from dalign.ranks import ALONE, Ranks
from dalign.specs.stage import TrainerSpec


class Progress(Callback):
    """Tells ``report(done, total)`` after each optimiser step."""

    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self.report, self.total = report, total

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.report(trainer.global_step, self.total)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.report(trainer.global_step, self.total)


def settle(spec: TrainerSpec, seed: int, ranks: Ranks = ALONE) -> None:
    """Fixes threads and every generator, before a model is made. Raises ``ConfigError`` unless there is a process for
    each device."""
    require_as_many(spec, ranks)
    if spec.threads:
        torch.set_num_threads(spec.threads)
    seed_everything(seed, workers=True, verbose=False)


def fit(
    module: LightningModule,
    spec: TrainerSpec,
    *,
    device: torch.device,
    max_steps: int,
    callbacks: Sequence[Callback] = (),
    checkpoint_io: CheckpointIO | None = None,
    resume: Path | None = None,
) -> None:
    """One pass over the module's loader of ``max_steps`` batches, on ``device`` unless ``accelerator`` differs; of
    several processes each calls this for itself, and Lightning knows of one (``dalign.ranks`` says why).

    Every operation is deterministic meanwhile; what torch adds to that, filling new memory before it is written to, is
    left out. ``resume`` names a checkpoint to go on from.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    wanted = "gpu" if device.type == "cuda" else "cpu"
    memory: Any = deterministic
    before, filled = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    memory.fill_uninitialized_memory = False
    trainer = Trainer(
        accelerator=wanted if spec.accelerator == "auto" else spec.accelerator,
        devices=1,
        strategy="auto",
        max_epochs=1,
        max_steps=max_steps,
        deterministic=True,
        logger=False,
        callbacks=list(callbacks),
        plugins=[checkpoint_io] if checkpoint_io else None,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    try:
        trainer.fit(module, ckpt_path=str(resume) if resume else None, weights_only=True)
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled
