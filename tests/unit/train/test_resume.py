"""A killed distillation ends with the files of one left alone; a foreign or damaged checkpoint is never half used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_stage
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny_stage import make_traces, metrics, open_folder, run_spec, run_stage
from transformers import AutoModelForCausalLM

import dalign
from dalign.errors import ArtifactError
from dalign.specs.run import RunSpec
from dalign.store import StageFolder
from dalign.train.checkpoint import SealedCheckpointIO, checkpoint_path
from dalign.train.fit import distill


class StoppedError(Exception):
    """Stands for a kill, where the process is to go on."""


class StoppingFolder(StageFolder):
    """Raises when the row of ``stop_at`` with the key ``stop_key`` has been written."""

    stop_at, stop_key = 0, "loss"

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        super().log(row)
        if row.get("step") == self.stop_at and self.stop_key in row:
            raise StoppedError


def stop(spec: RunSpec, path: Path, step: int, key: str = "loss") -> None:
    StoppingFolder.stop_at, StoppingFolder.stop_key = step, key
    with pytest.raises(StoppedError):
        run_stage(spec, path, folder_type=StoppingFolder)


def adapter_bytes(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((path / "adapter").iterdir())}


@pytest.fixture(scope="module")
def spec(tiny_checkpoint: Path) -> RunSpec:
    return run_spec(tiny_checkpoint)


@pytest.fixture(scope="module")
def undisturbed(spec: RunSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    run_stage(spec, path)
    return path


@pytest.mark.parametrize(("step", "key"), [(1, "loss"), (4, "loss"), (4, "validation_loss"), (6, "loss")])
def test_a_resumed_run_equals_the_uninterrupted_one(
    spec: RunSpec, undisturbed: Path, tmp_path: Path, step: int, key: str
) -> None:
    """Dropout is on, so the random states must come back too; every later loss and the adapter's bytes are equal."""
    stop(spec, tmp_path, step, key)
    saved = [p.name for p in sorted(tmp_path.glob("checkpoints/*"))]
    assert saved == [f"step-{s:08d}.ckpt" for s in (2, 4) if s < step]
    run_stage(spec, tmp_path)
    assert metrics(tmp_path) == metrics(undisturbed)
    assert adapter_bytes(tmp_path) == adapter_bytes(undisturbed)
    assert not (tmp_path / "checkpoints").exists()


def test_optimiser_and_random_states_survive_bit_for_bit(spec: RunSpec, tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    stop(spec, whole, 5)
    stop(spec, resumed, 3)
    stop(spec, resumed, 5)
    one, two = (SealedCheckpointIO().load_checkpoint(checkpoint_path(p / "checkpoints", 4)) for p in (whole, resumed))
    for state in (one, two):
        assert set(state["state_dict"]) == {n for n in state["state_dict"] if "lora_" in n}
    assert str(one["random_state"]) == str(two["random_state"])
    pairs = [(one["state_dict"][n], two["state_dict"][n]) for n in one["state_dict"]]
    first, second = (s["optimizer_states"][0]["state"] for s in (one, two))
    pairs += [(first[i][k], second[i][k]) for i in first for k in ("exp_avg", "exp_avg_sq", "step")]
    assert len(pairs) == 4 * len(one["state_dict"])
    assert all(torch.equal(a, b) for a, b in pairs)


def test_kill_9_and_rerun_end_with_the_files_of_a_run_left_alone(
    undisturbed: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Killed before and after the first checkpoint, under another hash seed: nothing may depend on a set's order."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dalign.__file__).parents[1]), "PYTHONHASHSEED": "7"}
    command = [sys.executable, tiny_stage.__file__, str(tmp_path / "r"), str(tiny_checkpoint), "1", "5"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert metrics(tmp_path / "r") == metrics(undisturbed)
    assert adapter_bytes(tmp_path / "r") == adapter_bytes(undisturbed)
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == sorted(p.name for p in undisturbed.iterdir())


def test_a_finished_adapter_is_not_trained_again(spec: RunSpec, undisturbed: Path) -> None:
    before, rows = adapter_bytes(undisturbed), metrics(undisturbed)
    stamp = (undisturbed / "adapter/adapter_model.safetensors").stat().st_mtime_ns
    again = run_stage(spec, undisturbed)
    assert (undisturbed / "adapter/adapter_model.safetensors").stat().st_mtime_ns == stamp
    assert (adapter_bytes(undisturbed), metrics(undisturbed)) == (before, rows)
    assert again.files == ("adapter/README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors")


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(
    spec: RunSpec, undisturbed: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop(spec, tmp_path, 5)
    last = checkpoint_path(tmp_path / "checkpoints", 4)
    raw = bytearray(last.read_bytes())
    raw[len(raw) // 2] ^= 1
    last.write_bytes({"torn": bytes(raw[: len(raw) // 2]), "flipped": bytes(raw), "empty": b""}[damage])
    run_stage(spec, tmp_path)
    assert "step-00000004.ckpt is torn or damaged" in caplog.text
    assert metrics(tmp_path) == metrics(undisturbed)
    assert adapter_bytes(tmp_path) == adapter_bytes(undisturbed)


def rewrite(path: Path, change: Any) -> None:
    checkpoint = SealedCheckpointIO().load_checkpoint(path)
    change(checkpoint)
    SealedCheckpointIO().save_checkpoint(checkpoint, path)


def test_renamed_missing_and_reshaped_keys_fail_loudly(spec: RunSpec, tmp_path: Path) -> None:
    """With Lightning's strict_loading off, such keys load without any message."""
    stop(spec, tmp_path, 3)
    path = checkpoint_path(tmp_path / "checkpoints", 2)
    whole = SealedCheckpointIO().load_checkpoint(path)
    name = next(iter(whole["state_dict"]))

    def rename(checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"]["elsewhere"] = checkpoint["state_dict"].pop(name)

    rewrite(path, rename)
    with pytest.raises(ArtifactError, match=rf"missing: {name}\n  unknown: elsewhere"):
        run_stage(spec, tmp_path)
    SealedCheckpointIO().save_checkpoint(whole, path)
    rewrite(path, lambda c: c["state_dict"].update({name: c["state_dict"][name][:1]}))
    with pytest.raises(ArtifactError, match=rf"{name}: \(1, .* saved, \(4, .* expected"):
        run_stage(spec, tmp_path)


def test_a_checkpoint_of_other_examples_is_refused(spec: RunSpec, tmp_path: Path) -> None:
    stop(spec, tmp_path, 3)
    with open_folder(tmp_path) as folder, pytest.raises(ArtifactError, match="made on other examples"):
        distill(spec, make_traces(25), folder)


def test_another_micro_batch_size_may_continue(spec: RunSpec, tiny_checkpoint: Path, tmp_path: Path) -> None:
    stop(spec, tmp_path, 3)
    run_stage(run_spec(tiny_checkpoint, {"micro_batch_tokens": 16}), tmp_path)
    assert [r["step"] for r in metrics(tmp_path) if "loss" in r] == [1, 2, 3, 4, 5, 6]


def test_the_adapter_is_a_plain_peft_folder(undisturbed: Path, tiny_checkpoint: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    ids = torch.tensor([[2, 7, 8, 3]])
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, str(undisturbed / "adapter")).eval()
        assert float((adapted(ids).logits - before).abs().max()) > 1e-3
        with adapted.disable_adapter():
            assert torch.equal(adapted(ids).logits, before)
    tensors = load_file(undisturbed / "adapter/adapter_model.safetensors")
    assert all("lora_" in name and tensor.dtype == torch.float32 for name, tensor in tensors.items())


def test_training_goes_on_from_a_given_adapter(undisturbed: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    spec = run_spec(tiny_checkpoint, {"lr": 1e-4, "max_steps": 1})
    further = spec.model_copy(
        update={"inputs": spec.inputs.model_copy(update={"adapter": str(undisturbed / "adapter")})}
    )
    run_stage(further, tmp_path)
    old = load_file(undisturbed / "adapter/adapter_model.safetensors")
    new = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert old.keys() == new.keys()
    gaps = [float((old[n] - new[n]).abs().max()) for n in old]
    assert max(gaps) > 0
    assert max(gaps) <= 1.01e-4  # one AdamW step of the rate, and no more
