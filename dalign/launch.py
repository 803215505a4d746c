"""Runs one job as a fresh process tree with a clean environment, and a sweep's jobs one after the other.

Lightning's launcher and Hydra's multirun leak ranks and process groups from one job into the next (a second job trained
on half of its data in silence), so the process that Hydra runs in never computes: it starts ``dalign.worker``, once or
as often as ``trainer`` says. Under ``torchrun`` the processes are there already, and each starts the one it stands for.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dalign.config.places import repository
from dalign.errors import ConfigError
from dalign.joining import ENVIRONMENT, STORE
from dalign.specs.run import RunSpec
from dalign.tree import Start, run_tree

_RANKS = (*ENVIRONMENT, STORE, "NODE_RANK")
_RANK_PREFIXES = ("TORCHELASTIC_", "GROUP_", "ROLE_", "PL_GLOBAL_")
_GPUS = "CUDA_VISIBLE_DEVICES"


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what another distributed job left in it, and with this checkout found first."""
    kept = {k: v for k, v in environment.items() if k not in _RANKS and not k.startswith(_RANK_PREFIXES)}
    root = repository()
    if root is not None:
        kept["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [kept.get("PYTHONPATH")])])
    return kept


def started_outside(environment: Mapping[str, str]) -> int:
    """How many processes ``torchrun``, or whatever sets what it sets, started this command in; 1 for none but this."""
    named = [environment.get(name, "") for name in ENVIRONMENT]
    return int(environment["WORLD_SIZE"]) if all(named) and environment["WORLD_SIZE"].isdigit() else 1


def require_startable(specs: Sequence[RunSpec], environment: Mapping[str, str]) -> None:
    """Raises ``ConfigError`` if this command was started in several processes that are not those of its one job."""
    world = started_outside(environment)
    for spec in specs if world > 1 else ():
        if spec.trainer.processes != world:
            raise ConfigError(
                f"WORLD_SIZE={world}: this command was started in {world} processes, and trainer.devices="
                f"{spec.trainer.devices} with trainer.strategy={spec.trainer.strategy} makes {spec.trainer.processes}; "
                f"give trainer=ddp trainer.devices={world}, or start it once: it starts the others itself"
            )
    if world > 1 and len(specs) > 1:
        raise ConfigError("a sweep (-m) starts the processes of each job itself: start it once, without torchrun")


def run_job(spec: RunSpec, verb: str) -> int:
    """Runs the job to its end and returns its exit code: 0, 2 the user's to mend, 1 a bug, 128 + a signal.

    The resolved configuration travels in a temporary file outside the run folder. When interrupted, raises
    ``SystemExit`` (130) once all workers have ended.
    """
    with tempfile.TemporaryDirectory(prefix="dalign-") as name:
        folder = Path(name)
        config = folder / "job.json"
        config.write_text(spec.model_dump_json(indent=1), encoding="utf-8")
        # -P keeps the working folder, where a user may have a datasets/ or a wandb/, out of the module path.
        command = [sys.executable, "-P", "-m", "dalign.worker", "--config", str(config), "--verb", verb]
        return run_tree([Start(command, *place) for place in _places(spec, folder)])


def _places(spec: RunSpec, folder: Path) -> list[tuple[dict[str, str], Path | None]]:
    """The environment of each process to start, and the file that takes what it prints."""
    clean, world = scrubbed(os.environ), spec.trainer.processes
    if world == 1:
        return [(clean, None)]
    on_gpus = spec.trainer.accelerator == "gpu"
    if started_outside(os.environ) == world:
        given = {k: v for k, v in os.environ.items() if k in _RANKS or k.startswith(_RANK_PREFIXES)}
        return [(_placed({**clean, **given}, int(given["LOCAL_RANK"]), on_gpus), None)]
    if sys.platform == "linux":
        clean.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine may not find itself by its own name
    clean |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), STORE: str(folder / "rendezvous")}
    return [
        (
            _placed({**clean, "RANK": str(rank), "LOCAL_RANK": str(rank)}, rank, on_gpus),
            folder / f"process-{rank}.log" if rank else None,
        )
        for rank in range(world)
    ]


def _placed(environment: dict[str, str], local: int, on_gpus: bool) -> dict[str, str]:
    """The environment in which a process sees its own GPU alone, so that all it makes is there: model and judges."""
    if not on_gpus:
        return environment
    visible = environment.get(_GPUS)
    own = [str(local)] if visible is None else visible.split(",")[local : local + 1]
    return {**environment, _GPUS: "".join(own)}  # none where there are too few: the worker says so


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
