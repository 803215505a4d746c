"""Which judges gave a cell's verdicts: ``judges.json``, by name, with their configuration and version.

A verdict is known by its judge's name, so a name means one judge: another threshold, or other weights under the same
configuration, would be taken for it in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalign.errors import ArtifactError
from dalign.files import read_json, write_json
from dalign.specs.judge import JudgeSpec
from dalign.store import differences

if TYPE_CHECKING:
    from dalign.judge import Judge

NAME = "judges.json"


def check_judges(folder: Path, judges: Iterable[JudgeSpec]) -> None:
    """Raises ``ArtifactError`` for a judge that has given verdicts here under another configuration."""
    known = _read(folder)
    for judge in judges:
        if judge.name in known:
            _compare(folder, judge.name, known[judge.name]["spec"], judge.results())


def record_judge(folder: Path, spec: JudgeSpec, judge: Judge) -> None:
    """Writes down a judge before its first verdict. Raises ``ArtifactError`` if one of its name was another one."""
    known, own = _read(folder), {"spec": spec.results(), "version": judge.version}
    if spec.name in known:
        _compare(folder, spec.name, known[spec.name], own)
    write_json(folder / NAME, {**known, spec.name: own})


def judge_versions(folder: Path) -> dict[str, str]:
    """The version of every judge that has given verdicts here, by name."""
    return {name: str(known["version"]) for name, known in _read(folder).items()}


def judge_specs(folder: Path) -> dict[str, dict[str, Any]]:
    """The recorded configuration of every judge that has given verdicts here, by name."""
    return {name: dict(known["spec"]) for name, known in _read(folder).items()}


def recorded_version(folder: Path, name: str) -> str:
    """The version of a judge that has given verdicts here. Raises ``ArtifactError`` if it has given none."""
    known = judge_versions(folder)
    if name not in known:
        raise ArtifactError(f"{folder}: judge {name} has given no verdicts here; rerun evaluate.py with it")
    return known[name]


def _read(folder: Path) -> dict[str, Any]:
    return dict(read_json(folder / NAME)) if (folder / NAME).exists() else {}


def _compare(folder: Path, name: str, recorded: dict[str, Any], wanted: dict[str, Any]) -> None:
    if changed := differences(recorded, wanted):
        raise ArtifactError(
            f"{folder}: the verdicts of judge {name} were given by another judge of that name:\n{changed}\n"
            "  give this one a name of its own (judges.KEY.name=NAME) to have both, or use another run=NAME"
        )
