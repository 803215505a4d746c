"""Trains an adapter through any number of kills: the newest checkpoint in, a plain PEFT folder out.

The adapter takes its name in one rename, when training is over: where it stands, there is nothing left to train.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalign.errors import ModelError
from dalign.files import name_folder, read_json, write_json
from dalign.models import LoadedModel
from dalign.ranks import ALONE, Ranks
from dalign.specs.run import RunSpec
from dalign.store import StageFolder, progress_bar
from dalign.train.checkpoint import Checkpoints, SealedCheckpointIO, checkpoint_step, latest, rewind_metrics
from dalign.train.forward import prepared
from dalign.train.lit_adapter import LitAdapter, Row, tensors_digest
from dalign.train.trackers import tracking, write_csv
from dalign.train.trainer import Progress, fit


@dataclass(frozen=True)
class Outcome:
    """What a stage made: its final files, relative to the folder, and facts for the manifest (none depends on time)."""

    files: tuple[str, ...]
    facts: Mapping[str, Any]


def train_adapter(
    spec: RunSpec,
    loaded: LoadedModel,
    folder: StageFolder,
    make: Callable[[Callable[[Row], None]], LitAdapter],
    *,
    label: str,
    steps: int,
    checkpoint_every: int,
    updates: int = 1,
    ranks: Ranks = ALONE,
) -> tuple[str, ...]:
    """Has the module that ``make`` builds around a logger of rows do the ``steps`` of its plan, each of ``updates``
    optimiser steps, and writes ``<folder>/adapter/`` unless that stands; returns its files. Each of ``ranks`` calls
    this; the first alone reads and changes the folder before the others go on, and writes to it.

    Raises ``ModelError`` if the adapter did not move, and ``ArtifactError`` for checkpoints of another model or plan.
    """
    adapter, checkpoints = folder.path / "adapter", folder.path / "checkpoints"
    stands, resume = ranks.leaders(_found(folder, updates) if ranks.leads else (False, None))
    if not stands:
        done = checkpoint_step(resume) // updates if resume else 0
        saving = Checkpoints(checkpoints, every=checkpoint_every * updates, total=steps * updates, saves=ranks.leads)
        with (
            prepared(loaded.model, recompute=spec.model.gradient_checkpointing),
            tracking(spec, folder, resumed=done) if ranks.leads else nullcontext(folder.log) as log_row,
            progress_bar(label) if ranks.leads else nullcontext(_silent) as report,
        ):
            module = make(log_row)
            module.train()
            fit(
                module,
                spec.trainer,
                device=loaded.device,
                max_steps=steps * updates,
                callbacks=[Progress(report, steps * updates), saving],
                checkpoint_io=SealedCheckpointIO(),
                resume=resume,
            )
            if tensors_digest(module.trained) == module.initial:
                raise ModelError(
                    f"the adapter did not change in {steps} steps: stage.lr={module.optimiser.lr} is too small for its "
                    "dtype, or no gradient reaches it"
                )
            module.require_one_model()
            if ranks.leads:
                _write_adapter(loaded, adapter)
    if not ranks.leads:
        return ()
    shutil.rmtree(checkpoints, ignore_errors=True)
    if spec.logger.name == "csv":
        write_csv(folder)
    return tuple(sorted(f"adapter/{path.name}" for path in adapter.iterdir()))


def _found(folder: StageFolder, updates: int) -> tuple[bool, Path | None]:
    """Whether the adapter stands; if not, the checkpoint to go on from, whose rows are the last in the metrics."""
    if (folder.path / "adapter").exists():
        return True, None
    resume = latest(folder.path / "checkpoints")
    rewind_metrics(folder.path / "metrics.jsonl", checkpoint_step(resume) // updates if resume else -1)
    return False, resume


def _silent(done: int, total: int) -> None:
    """The progress of a process that does not talk."""


def _write_adapter(loaded: LoadedModel, target: Path) -> None:
    """The PEFT folder, complete before it takes its name. peft writes its sets in hash order: we sort them."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    loaded.save_adapter(partial)
    config = read_json(partial / "adapter_config.json")
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    write_json(partial / "adapter_config.json", config)
    name_folder(partial, target)
