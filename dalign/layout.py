"""Where things lie below ``paths.runs``, and which of a run's artifacts another stage reads."""

from __future__ import annotations

from pathlib import Path

from dalign.errors import ArtifactError
from dalign.files import sha256
from dalign.specs.protocol import CORRECTED
from dalign.specs.run import RunSpec
from dalign.store import StageFolder

ADAPTER_POLICIES = ("distill", "grpo")
PLAIN_POLICIES = ("base", "teacher")
POLICIES = (*PLAIN_POLICIES, *ADAPTER_POLICIES)
PROTOCOLS, PROTOCOLS_ASKED = "protocols", "asked.json"  # a folder of a cell, and the file that names what is in it


def run_folder(spec: RunSpec) -> Path:
    """The folder of the whole run."""
    return Path(spec.paths.runs).expanduser() / spec.run


def stage_folder(spec: RunSpec, *parts: str) -> Path:
    """The folder of a stage, or of a cell of the evaluation."""
    return run_folder(spec).joinpath(*parts)


def cell_folder(benchmark: str, protocol: str) -> str:
    """The folder's name of a benchmark whose prompts were asked by a protocol: its own name for the corrected one."""
    return benchmark if protocol == CORRECTED else f"{benchmark}@{protocol}"


def benchmark_and_protocol(folder: str) -> tuple[str, str]:
    """What ``cell_folder`` was given."""
    benchmark, _, protocol = folder.partition("@")
    return benchmark, protocol or CORRECTED


def evaluated_cell(spec: RunSpec, policy: str, benchmark: str, *, remedy: str) -> Path:
    """The folder of a finished cell of the evaluation. Raises ``ArtifactError`` with ``remedy`` if it is not."""
    folder = stage_folder(spec, "evaluate", policy, benchmark)
    if not StageFolder(folder, config={}, results={}, inputs={}).finished:
        raise ArtifactError(f"{folder}: no finished evaluation; {remedy}")
    return folder


def traces_files(spec: RunSpec) -> tuple[Path, ...]:
    """The traces that distillation reads: those of ``inputs.traces``, else the run's own. Raises ``ArtifactError`` with
    the remedy if they are not there."""
    if named := spec.inputs.traces_files:
        paths = tuple(Path(name).expanduser() for name in named)
        if missing := [name for name, path in zip(named, paths, strict=True) if not path.is_file()]:
            raise ArtifactError(f"inputs.traces={missing[0]}: no such file")
        return paths
    path = stage_folder(spec, "traces") / "traces.parquet"
    if not (path.parent / "manifest.json").exists():
        raise ArtifactError(
            f"{path.parent}: no finished traces; run stage=traces first, or name a file by inputs.traces="
        )
    return (path,)


def adapter_of(spec: RunSpec, policy: str) -> str:
    """The adapter of a policy: ``inputs.adapter`` for ``distill`` if it is set, else the stage's own."""
    if spec.inputs.adapter is not None and policy == "distill":
        return spec.inputs.adapter
    folder = stage_folder(spec, policy)
    if not (folder / "manifest.json").exists():
        raise ArtifactError(f"{folder}: no finished adapter; run stage={policy} first, or name one by inputs.adapter=")
    return str(folder / "adapter")


def file_hash(path: Path) -> str:
    """16 hex digits of a file's SHA-256, as ``inputs.json`` holds them."""
    return sha256(path)[:16]
