"""Runs one job as a fresh process tree with a clean environment, and a sweep's jobs one after the other.

Lightning's launcher and Hydra's multirun leak ranks and process groups from one job into the next (a second job trained
on half of its data in silence), so the process that Hydra runs in never computes: it starts ``dalign.worker``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dalign.config.places import repository
from dalign.specs.run import RunSpec

INTERRUPTED = 130
_RANKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_RANK_PREFIXES = ("TORCHELASTIC_", "GROUP_", "ROLE_", "PL_GLOBAL_")
_GRACE = 20.0
_PR_SET_PDEATHSIG = 1


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what another distributed job left in it, and with this checkout found first."""
    kept = {k: v for k, v in environment.items() if k not in _RANKS and not k.startswith(_RANK_PREFIXES)}
    root = repository()
    if root is not None:
        kept["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [kept.get("PYTHONPATH")])])
    return kept


def run_job(spec: RunSpec, verb: str) -> int:
    """Runs the job to its end and returns its exit code: 0, 2 the user's to mend, 1 a bug.

    A worker that a signal ended gives 128 + the signal, with a line that says so. The resolved configuration travels in
    a temporary file outside the run folder. When interrupted, raises ``SystemExit`` (130) once the worker has ended.
    """
    with tempfile.TemporaryDirectory(prefix="dalign-") as folder:
        config = Path(folder) / "job.json"
        config.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
        # -P keeps the working folder, where a user may have a datasets/ or a wandb/, out of the module path.
        command = [sys.executable, "-P", "-m", "dalign.worker", "--config", str(config), "--verb", verb]
        return _wait_for(command)


def _wait_for(command: Sequence[str]) -> int:
    worker = subprocess.Popen(command, env=scrubbed(os.environ), preexec_fn=_end_with_parent)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = worker.wait()
    except KeyboardInterrupt:
        _end(worker)
        raise SystemExit(INTERRUPTED) from None  # the worker has said it; no job of a sweep follows
    finally:
        signal.signal(signal.SIGTERM, before)
    if code >= 0:
        return code
    why = " (out of memory?)" if -code == signal.SIGKILL else ""
    print(f"error: the job was ended by {signal.Signals(-code).name}{why}; rerun it to continue", file=sys.stderr)
    return 128 - code


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Waits for a worker that Ctrl-C has reached too; asks again, then insists."""
    for seconds, number in ((1.0, signal.SIGINT), (_GRACE, signal.SIGTERM), (_GRACE, signal.SIGKILL)):
        try:
            worker.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            worker.send_signal(number)
    worker.wait()


def _end_with_parent() -> None:
    """In the worker, before it starts: it ends with this process, even by kill -9, or a rerun finds a second writer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Outcomes:
    """How each job of a command ended. A failed job does not end a sweep."""

    total: int
    rows: list[tuple[str, int, float]] = field(default_factory=list)

    def add(self, spec: RunSpec, verb: str) -> None:
        """Runs a job and keeps its exit code and seconds."""
        if self.total > 1:
            print(f"\n[{len(self.rows) + 1}/{self.total}] {spec.run}", flush=True)
        start = time.monotonic()
        code = run_job(spec, verb)
        self.rows.append((spec.run, code, time.monotonic() - start))

    @property
    def exit_code(self) -> int:
        """A single job's own code; 1 for a sweep in which any failed."""
        if self.total == 1:
            return self.rows[0][1] if self.rows else 1
        return int(len(self.rows) < self.total or any(code for _, code, _ in self.rows))

    def table(self) -> str:
        """One line a job of a sweep, the failed ones named; empty for a single job."""
        if self.total == 1:
            return ""
        width = max((len(name) for name, _, _ in self.rows), default=0)
        told = {0: "ok", 1: "failed: a bug, see its traceback", 2: "failed: see its message"}
        lines = [
            f"  {name:<{width}}  {s:8.1f} s  {told.get(code, f'failed: exit {code}')}" for name, code, s in self.rows
        ]
        failed = sum(code != 0 for _, code, _ in self.rows)
        return "\n".join([f"\n{len(self.rows)} jobs, {failed} failed; the same command runs those again:", *lines])
