"""Sealed files, random states, key sets and the rewinding of metrics."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from dalign.errors import ArtifactError
from dalign.train.checkpoint import (
    SealedCheckpointIO,
    checkpoint_path,
    checkpoint_step,
    latest,
    random_state,
    restore_random_state,
    rewind_metrics,
    sealed,
    verify_keys,
)


def test_every_cut_and_flip_breaks_the_seal(tmp_path: Path) -> None:
    """``torch.load`` by itself accepts most flipped bits and returns other numbers."""
    path = tmp_path / "x.ckpt"
    SealedCheckpointIO().save_checkpoint({"w": torch.arange(5.0), "step": 3}, path)
    assert torch.equal(SealedCheckpointIO().load_checkpoint(path)["w"], torch.arange(5.0))
    raw = path.read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        flipped = bytearray(raw)
        flipped[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(flipped))
        assert not sealed(path)
        path.write_bytes(raw[: rng.randrange(len(raw))])
        assert not sealed(path)
    with pytest.raises(ArtifactError, match=r"x\.ckpt: damaged"):
        SealedCheckpointIO().load_checkpoint(path)


def test_only_plain_data_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    SealedCheckpointIO().save_checkpoint({"w": Path("code")}, path)
    with pytest.raises(Exception, match=r"Weights only load failed"):
        SealedCheckpointIO().load_checkpoint(path)


def test_a_failed_save_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ckpt"
    SealedCheckpointIO().save_checkpoint({"w": 1}, path)

    def full_disk(value: object, to: Path) -> None:
        Path(to).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        SealedCheckpointIO().save_checkpoint({"w": 2}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.ckpt"]
    assert SealedCheckpointIO().load_checkpoint(path) == {"w": 1}


def test_latest_skips_damage_and_leftovers(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    for step in (5, 10):
        SealedCheckpointIO().save_checkpoint({"step": step}, checkpoint_path(tmp_path, step))
    (tmp_path / ".step-00000015.ckpt.1.tmp").write_bytes(b"half")
    assert latest(tmp_path) == checkpoint_path(tmp_path, 10)
    checkpoint_path(tmp_path, 10).write_bytes(b"torn")
    found = latest(tmp_path)
    assert found is not None
    assert checkpoint_step(found) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005.ckpt"]


def test_random_states_come_back(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(())), random.gauss(0, 1)

    random.gauss(0, 1)  # leaves a second Gaussian waiting in Python's state
    path = tmp_path / "x.ckpt"
    SealedCheckpointIO().save_checkpoint({"random_state": random_state()}, path)
    first = draw()
    draw()
    restore_random_state(SealedCheckpointIO().load_checkpoint(path)["random_state"])
    assert draw() == first


def test_keys_must_match_exactly() -> None:
    one = {"a": torch.zeros(2), "b": torch.zeros(2)}
    verify_keys(one, dict(one))
    with pytest.raises(ArtifactError, match="missing: b"):
        verify_keys({"a": one["a"]}, one)
    with pytest.raises(ArtifactError, match="unknown: c"):
        verify_keys({**one, "c": one["a"]}, one)
    with pytest.raises(ArtifactError, match=r"b: \(2,\) torch.float16 saved"):
        verify_keys({**one, "b": one["b"].half()}, one)
    with pytest.raises(ArtifactError, match="and 12 more"):
        verify_keys({}, {str(i): torch.zeros(1) for i in range(20)})


def test_metrics_are_rewound_to_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rewind_metrics(path, 3)
    assert not path.exists()
    rows = [{"note": "x"}, {"step": 0}, {"step": 2}, {"step": 3}, {"step": 3, "v": 1}, {"step": 4}]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows) + '{"step": 5, "lo')
    (tmp_path / ".metrics.jsonl.77.tmp").write_text("half")
    rewind_metrics(path, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows[:5]
    rewind_metrics(path, -1)
    assert path.read_text() == '{"note": "x"}\n'
