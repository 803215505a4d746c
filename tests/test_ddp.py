"""``trainer=ddp_cpu`` by the command line: the adapter of one process, also if one of two is killed half-way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline import DISTILL, SMALL, run
from safetensors.torch import load_file

from dalign.files import read_json

TRAIN = Path(__file__).parents[1] / "train.py"
LR = "stage.lr=1e-3"
STEPS = "stage.max_steps=10"


def command(runs: Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        str(TRAIN),
        *SMALL,
        f"paths.runs={runs}",
        *overrides,
        "trainer=ddp_cpu",
        "trainer.threads=1",
    ]


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = tmp_path_factory.mktemp("traces")
    run("train", runs, "stage=traces")
    return f"inputs.traces={runs / 'small' / 'traces' / 'traces.parquet'}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, traces: str) -> Path:
    """A distillation by one process."""
    runs = tmp_path_factory.mktemp("alone")
    run("train", runs, *DISTILL, STEPS, LR, traces)
    return runs / "small" / "distill"


def away(one: Path, other: Path) -> float:
    """The largest distance between the tensors of two adapters."""
    found, same = (load_file(path / "adapter" / "adapter_model.safetensors") for path in (one, other))
    assert found.keys() == same.keys()
    return max(float((tensor - same[name]).abs().max()) for name, tensor in found.items())


def workers(parent: int) -> dict[int, int]:
    """The ranks of the processes that ``parent`` started, and their ids."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            environment = (entry / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue
        found |= {int(item[5:]): int(entry.name) for item in environment if item.startswith(b"RANK=")}
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_kill_9_of_one_process_ends_both_and_the_same_command_continues(
    tmp_path: Path, alone: Path, traces: str
) -> None:
    folder = tmp_path / "small" / "distill"
    words = command(tmp_path, *DISTILL, STEPS, LR, traces)
    # What another job left in the environment is no rank of this one.
    environment = {**os.environ, "RANK": "3", "WORLD_SIZE": "4"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not any(folder.glob("checkpoints/*.ckpt")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.002)
    found = workers(process.pid)
    os.kill(found[1], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert sorted(found) == [0, 1]
    assert process.returncode == 128 + signal.SIGKILL, told
    assert "process 1 was ended by SIGKILL (out of memory?); rerun it to continue" in told
    assert not any(Path(f"/proc/{pid}").exists() for pid in found.values())
    assert not (folder / "adapter").exists()
    again = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "in 2 processes" in again.stderr
    assert away(folder, alone) < 1e-4  # in float32, where one step alone moves a weight by 1e-3
    mine, theirs = (read_json(path / "manifest.json") for path in (folder, alone))
    assert mine.pop("processes") == 2
    assert mine.pop("files").keys() == theirs.pop("files").keys()
    assert mine == theirs
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
