"""Checkpoints of what training moves: adapter, optimiser, random states, step. Sealed, so that damage is seen.

``torch.load`` accepts a file with flipped bits; so each file ends with the SHA-256 of what stands before it. Two are
kept: if the last one is torn or damaged, training goes on from the one before.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dalign.errors import ArtifactError
from dalign.files import replace_file, write_text

log = logging.getLogger(__name__)

KEPT = 2
_SEAL = hashlib.sha256().digest_size


class SealedCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint file, written all or nothing with a seal at its end, and read as plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes ``path``; a kill leaves the file that was there before, or none."""

        def write(to: Path) -> None:
            torch.save(checkpoint, to)
            seal = _body_digest(to, to.stat().st_size)
            with to.open("ab") as stream:
                stream.write(seal)

        replace_file(Path(path), write)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """The checkpoint's dict. Raises ``ArtifactError`` for a damaged file."""
        if not sealed(Path(path)):
            raise ArtifactError(f"{path}: damaged checkpoint; delete it to go on from the one before")
        return dict(torch.load(path, map_location="cpu", weights_only=True))


def _body_digest(path: Path, size: int) -> bytes:
    sha, left = hashlib.sha256(), size
    with path.open("rb") as stream:
        while left and (block := stream.read(min(left, 1 << 22))):
            sha.update(block)
            left -= len(block)
    return sha.digest()


def sealed(path: Path) -> bool:
    """Whether the file's last 32 bytes are the SHA-256 of the rest."""
    size = path.stat().st_size - _SEAL
    if size <= 0:
        return False
    with path.open("rb") as stream:
        stream.seek(size)
        seal = stream.read()
    return seal == _body_digest(path, size)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` finished optimiser steps stands."""
    return folder / f"step-{step:08d}.ckpt"


def checkpoint_step(path: Path) -> int:
    """The number of finished optimiser steps in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint, None if there is none. Damaged ones are deleted, and a message says so."""
    for path in folder.glob(".*.tmp"):
        path.unlink()
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        if sealed(path):
            return path
        log.warning("%s is torn or damaged: going on from the checkpoint before it", path)
        path.unlink()
    return None


def verify_keys(saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ``ArtifactError`` unless both hold the same names with the same shapes and dtypes."""
    problems = [f"missing: {name}" for name in sorted(expected.keys() - saved.keys())]
    problems += [f"unknown: {name}" for name in sorted(saved.keys() - expected.keys())]
    for name in sorted(expected.keys() & saved.keys()):
        was, now = saved[name], expected[name]
        if was.shape != now.shape or was.dtype != now.dtype:
            problems.append(f"{name}: {tuple(was.shape)} {was.dtype} saved, {tuple(now.shape)} {now.dtype} expected")
    if problems:
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ArtifactError(
            "the checkpoint is not of this model's trainable tensors:\n  "
            + "\n  ".join(problems[:8])
            + more
            + "\n  use the model and model.lora settings it was made with, or another run=NAME"
        )


def random_state() -> dict[str, Any]:
    """The states of the torch, numpy and Python generators, as plain data that ``weights_only`` loads."""
    numpy_state = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}},
        "python": random.getstate(),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Sets the generators to a ``random_state()``; CUDA's only where as many devices are there as were."""
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    inner = state["numpy"]["state"]
    np.random.set_state({**state["numpy"], "state": {**inner, "key": np.array(inner["key"], dtype=np.uint32)}})
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


class Checkpoints(Callback):
    """Saves every ``every`` optimiser steps and after the last (``total``), keeps the newest two. Of several processes
    the first alone saves (``saves``), all restore their random states from what it saved."""

    def __init__(self, folder: Path, *, every: int, total: int, saves: bool = True) -> None:
        self.folder, self.every, self.total, self.saves = folder, every, total, saves
        self._pending: Mapping[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = random_state()

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._pending = checkpoint["random_state"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Restores the generators here: what Lightning draws while it sets up is not part of the run."""
        if self._pending is not None:
            restore_random_state(self._pending)
            self._pending = None

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self.saves and (step % self.every == 0 or step == self.total):
            trainer.save_checkpoint(checkpoint_path(self.folder, step), weights_only=False)
            for old in sorted(self.folder.glob("step-*.ckpt"))[:-KEPT]:
                old.unlink()


def rewind_metrics(path: Path, step: int) -> None:
    """Drops the rows after ``step`` (and a torn last line), all or nothing: the steps will be done again.

    Rows without a step are kept.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a kill in the middle of a rewinding
        leftover.unlink()
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row.get("step", step) <= step:
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
