"""Small runs of the real stages on the embedded world, in this process or in one that is killed half-way."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from dalign import worker
from dalign.config import check
from dalign.models import load_model
from dalign.specs.run import RunSpec

SMALL = (
    "limit=12",
    "run=small",
    "trainer.threads=1",
    "sampler.n=2",
    "sampler.chunk=2",
    "sampler.max_new_tokens=48",
    "teacher.sampler.chunk=4",
)
DISTILL = (
    "stage=distill",
    "stage.max_steps=6",
    "stage.batch=4",
    "stage.validation=0.2",
    "stage.validate_every=3",
    "stage.checkpoint_every=2",
)
GRPO = (
    "stage=grpo",
    "limit=24",
    "stage.temperature=1.8",
    "sampler.max_new_tokens=24",
    "model.think.where=none",
    "stage.prompts=4",
    "stage.group=4",
    "stage.max_steps=3",
    "stage.validation=0.2",
    "stage.validate_every=2",
    "stage.checkpoint_every=1",
)
# What differs between two runs of one command by nature: times, and the folder's own name.
PERSONAL = {"metrics.jsonl", "metrics.csv", "config.yaml", "versions.json"}


def spec_of(verb: str, runs: Path, *overrides: str) -> RunSpec:
    """The checked spec of a command line below ``runs``."""
    (spec,) = check(verb, [*SMALL, f"paths.runs={runs}", *overrides])  # type: ignore[arg-type]
    return spec


def run(verb: str, runs: Path, *overrides: str) -> None:
    """The job in this process."""
    worker.run(spec_of(verb, runs, *overrides), verb)


def run_and_kill(verb: str, runs: Path, *overrides: str, when: Callable[[], bool]) -> None:
    """The job in a process of its own, killed by SIGKILL as soon as ``when`` holds. It must not have ended before."""
    config = runs.parent / f"{runs.name}.json"
    config.write_text(spec_of(verb, runs, *overrides).model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "dalign.worker", "--config", str(config), "--verb", verb]
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not when():
        assert process.poll() is None, f"ended with {process.returncode} before the kill: {process.stderr.read()!r}"
        assert time.monotonic() < deadline, "the moment to kill it never came"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def committed(path: Path) -> bool:
    """Whether a chunk log holds a committed chunk."""
    try:
        return '"commit"' in path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False


def final_files(folder: Path) -> dict[str, str]:
    """Relative path to hash of everything a run left, but for what is personal to it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in PERSONAL
    }


def noisy_student(base: Path) -> str:
    """The override that names a student that has learnt nothing but noise."""
    torch.manual_seed(0)
    loaded = load_model(spec_of("evaluate", base).model, new_lora=True)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    loaded.save_adapter(base / "adapter")
    return f"inputs.adapter={base / 'adapter'}"
