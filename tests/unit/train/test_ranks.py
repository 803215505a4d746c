"""Two processes train what one does: in float64 the same losses, gradients and parameters, each example once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny_ranks
import torch
from pipeline import GRPO as GRPO_WORDS
from pipeline import noisy_student, run, spec_of
from safetensors.torch import load_file
from tiny_grpo import distilled
from tiny_ranks import DISTILL, GRPO, distill_case, grpo_case, stage_case
from tiny_stage import make_checkpoint, metrics

import dalign
from dalign.files import read_json
from dalign.joining import STORE

MOVED = 1e-3  # what a few steps do to some weight
TIMES = {"rollout_s", "learn_s", "tokens_per_s", "processes"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that an adapter can teach."""
    return make_checkpoint(tmp_path_factory.mktemp("sharp"), sharpness=10.0)


@pytest.fixture(scope="module")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return distilled(checkpoint, tmp_path_factory.mktemp("distilled"))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> str:
    return noisy_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def two(checkpoint: Path, adapter: str, student: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of every case, on gloo."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("two")
    stage_case(checkpoint, folder / "begun on one", cut=True)
    job = folder / "job.json"
    job.write_text(spec_of("train", folder, *GRPO_WORDS, student, "trainer=ddp_cpu").model_dump_json())
    command = [sys.executable, tiny_ranks.__file__, str(folder), str(checkpoint), adapter, str(job)]
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(dalign.__file__).parents[1]), str(Path(__file__).parents[2])]),
        "WORLD_SIZE": "2",
        STORE: str(folder / "rendezvous"),
    }
    assert subprocess.run(command, env=common).returncode == 0
    return folder


def require_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Rows, gradients and tensors to 1e-9."""
    assert len(one["rows"]) == len(other["rows"]) > 2
    for row, same in zip(one["rows"], other["rows"], strict=True):
        assert row.keys() == same.keys()
        for name in row.keys() - TIMES:
            near = 1e-6 if name.startswith("engine") else 1e-9
            assert row[name] == (None if same[name] is None else pytest.approx(same[name], rel=1e-9, abs=near)), name
    assert len(one["gradients"]) == len(other["gradients"])
    assert max(float(g.abs().max()) for step in one["gradients"] for g in step.values()) > 1e-3
    for step, same in zip(one["gradients"], other["gradients"], strict=True):
        assert step.keys() == same.keys()
        for name, gradient in step.items():
            torch.testing.assert_close(gradient, same[name], rtol=0, atol=1e-9)
    for name, tensor in one["tensors"].items():
        assert tensor.dtype == torch.float64
        torch.testing.assert_close(tensor, other["tensors"][name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", GRPO)
def test_grpo_of_two_processes_is_that_of_one(two: Path, checkpoint: Path, adapter: str, name: str) -> None:
    """Of one in rows of one, too: micro-batches, accumulation and processes are the same sum."""
    found = torch.load(two / f"{name}.pt")
    require_same(grpo_case(checkpoint, adapter, GRPO[name]), found)
    if name == "dapo":
        require_same(grpo_case(checkpoint, adapter, {**GRPO[name], "micro_batch_tokens": 1}), found)


@pytest.mark.parametrize("name", DISTILL)
def test_distillation_by_two_processes_is_that_by_one(two: Path, checkpoint: Path, name: str) -> None:
    """Steps of 8, 8 and 3 examples; steps of one, in which the other process has none; three epochs of one step."""
    found = torch.load(two / f"distill {name}.pt")
    alone = distill_case(checkpoint, DISTILL[name])
    require_same(alone, found)
    seen = Counter(found["examples"])
    assert seen == Counter(alone["examples"])
    assert (len(seen), set(seen.values())) == {"eight": (19, {1}), "one": (5, {1}), "all": (19, {3})}[name]


def test_a_run_begun_on_one_process_continues_on_two_and_the_other_way_round(
    two: Path, checkpoint: Path, tmp_path: Path
) -> None:
    stage_case(checkpoint, tmp_path / "whole")
    stage_case(checkpoint, two / "begun on two")
    whole = load_file(tmp_path / "whole" / "adapter" / "adapter_model.safetensors")
    counts = {"begun on one": [None, None, 2, 2, 2, 2], "begun on two": [2, 2, None, None, None, None]}
    for name, processes in counts.items():
        rows = [row for row in metrics(two / name) if "loss" in row]
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert [row.get("processes") for row in rows] == processes  # from the checkpoint of step 2
        found = load_file(two / name / "adapter" / "adapter_model.safetensors")
        assert found.keys() == whole.keys()
        for key, tensor in found.items():
            torch.testing.assert_close(tensor, whole[key], rtol=0, atol=1e-4)  # of 6 steps of 1e-2, in float32


def test_with_dropout_two_processes_resume_to_the_byte(two: Path) -> None:
    """Each draws its masks from a stream of its own, which does not hang on where the run was cut."""
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        whole, cut = (two / one / "adapter" / name for one in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes()
    assert metrics(two / "whole") == metrics(two / "cut")


def test_the_stage_by_two_processes(two: Path, student: str, tmp_path: Path) -> None:
    """With its judges, on the embedded world: the first process alone writes, and says how many they were."""
    run("train", tmp_path, *GRPO_WORDS, student)
    one, other = (folder / "small" / "grpo" for folder in (tmp_path, two))
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    mine, theirs = (read_json(folder / "manifest.json") for folder in (other, one))
    assert mine.pop("processes") == 2
    assert mine.pop("files").keys() == theirs.pop("files").keys()
    assert mine == theirs
    rows, same = (metrics(folder) for folder in (one, other))
    assert [row["step"] for row in rows] == [row["step"] for row in same]
    for row, like in zip(rows, same, strict=True):
        for name in row.keys() - TIMES:
            assert like[name] == (None if row[name] is None else pytest.approx(row[name], rel=1e-3, abs=1e-4)), name
    start = load_file(Path(student.partition("=")[2]) / "adapter_model.safetensors")
    found, whole = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (other, one))
    assert max(float((found[name] - start[name]).abs().max()) for name in start) > MOVED
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=MOVED / 10)
