"""Attack success as rows of ``results.json``: by policy, benchmark, judge, pick and target, one an iteration.

Read from the finished folders of an attack alone, so that later policies and benchmarks join those that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from dalign.attack.control import Texts, control_columns, texts_of_turns
from dalign.attack.rates import Pick, queries, success
from dalign.attack.turns import Turn
from dalign.errors import ArtifactError
from dalign.files import read_json, read_records
from dalign.judges_file import judge_versions
from dalign.records import Prompt, Verdict
from dalign.report.intervals import Groups
from dalign.report.load import ORDER
from dalign.report.metrics import Floats, Rates
from dalign.report.rows import number
from dalign.store import StageFolder

PICKS: tuple[Pick, ...] = ("submitted", "any")


@dataclass(frozen=True)
class Attacked:
    """One finished folder ``attack/<attack>/<policy>/<benchmark>``."""

    folder: Path
    goals: list[Prompt]
    turns: list[Turn]
    verdicts: list[Verdict]
    attack: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Attacked:
        """The folder's records and the attack's configuration."""
        return cls(
            folder,
            read_records(folder / "goals.parquet", Prompt),
            read_records(folder / "turns.parquet", Turn),
            read_records(folder / "verdicts.parquet", Verdict),
            read_json(folder / "inputs.json")["results"]["attack"],
        )

    @property
    def targets(self) -> list[str]:
        """The targets attacked, one sample before best of N."""
        return sorted({turn.target for turn in self.turns}, reverse=True)

    def asked(self, target: str) -> list[Turn]:
        """The turns of a target that sent it an attempt."""
        return [turn for turn in self.turns if turn.target == target and turn.prompt]

    def texts(self, target: str) -> Texts:
        """Whose control tokens those turns spell."""
        return texts_of_turns(self.folder, target, self.goals, self.asked(target))


def texts_of(folder: Path) -> list[Texts]:
    """The texts of every target in every finished folder below ``folder``."""
    cells = [Attacked.read(place) for place in finished_folders(folder)]
    return [cell.texts(target) for cell in cells for target in cell.targets]


def rows_of(folder: Path, seed: int) -> list[dict[str, Any]]:
    """The rows of every finished ``<policy>/<benchmark>`` below ``folder``. Raises ``ArtifactError`` without any."""
    return [row for place in finished_folders(folder) for row in _rows(Attacked.read(place), seed)]


def finished_folders(folder: Path) -> list[Path]:
    """Every finished ``<policy>/<benchmark>`` below ``folder``, in reading order. ``ArtifactError`` without any."""
    places = sorted(folder.glob("*/*/manifest.json"), key=lambda p: (_order(p.parts[-3]), p.parts[-2]))
    found = [p.parent for p in places if StageFolder(p.parent, config={}, results={}, inputs={}).finished]
    if not found:
        raise ArtifactError(f"{folder}: no finished attack there; run the command again")
    return found


def _order(policy: str) -> tuple[int, str]:
    return (ORDER.index(policy) if policy in ORDER else len(ORDER), policy)


def _rows(cell: Attacked, seed: int) -> Iterator[dict[str, Any]]:
    groups = Groups([goal.group for goal in cell.goals], [seed, crc32(cell.folder.name.encode())])
    where = {"attack": cell.folder.parts[-3], "policy": cell.folder.parts[-2], "benchmark": cell.folder.name}
    counts = {"n_prompts": groups.n_prompts, "n_groups": groups.n_groups, "streams": cell.attack["streams"]}
    control = {target: _control(cell, target) for target in cell.targets}
    for judge in dict.fromkeys(v.judge for v in cell.verdicts):
        for pick in PICKS:
            single: Floats | None = None
            for target in cell.targets:
                found = _found(cell, judge, pick, target)
                columns = {**_rates(found, groups), **_against(found.value, single, groups)}
                columns["queries"] = groups.mean(_queries(cell, target))
                single = found.value if target == "single" else single
                facts = {**where, **about(cell.folder, judge, cell.verdicts), "pick": pick, "target": target, **counts}
                for i in range(cell.attack["iterations"]):
                    numbers = {k: number(v[i]) for k, v in columns.items()}
                    yield {**facts, "iteration": i + 1, **numbers, **control[target][i]}


def about(folder: Path, judge: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Whose verdicts these are, and what they count; a rate by the attack's own judge says how well that was fooled."""
    refusal = any(v.label in ("refused", "complied") for v in verdicts if v.judge == judge)
    own = read_json(folder / "inputs.json")["results"]["attack"]["judge"]["name"]
    return {
        "metric": "non_refusal_rate" if refusal else "asr",
        "judge": judge,
        "judge_version": judge_versions(folder).get(judge),
        "attack_judge": own,
        "is_attack_judge": judge == own,
    }


def _found(cell: Attacked, judge: str, pick: Pick, target: str) -> Rates:
    said = {v.sample_id: v for v in cell.verdicts if v.judge == judge}
    return success(pick, cell.goals, _own(cell, target), said, cell.attack["iterations"])


def _queries(cell: Attacked, target: str) -> Floats:
    return queries(cell.goals, _own(cell, target), cell.attack["iterations"])


def _control(cell: Attacked, target: str) -> list[dict[str, Any]]:
    """By iteration, the columns that count control strings in all turns so far."""
    at, texts = [turn.iteration for turn in cell.asked(target)], cell.texts(target)
    return [control_columns(texts, [one <= i for one in at]) for i in range(1, cell.attack["iterations"] + 1)]


def _own(cell: Attacked, target: str) -> list[Turn]:
    return [turn for turn in cell.turns if turn.target == target]


def _rates(found: Rates, groups: Groups) -> dict[str, Floats]:
    low, high = groups.rate_interval(found.value)
    bounds = {"value_if_unscored_safe": found.low.mean(axis=1), "value_if_unscored_unsafe": found.high.mean(axis=1)}
    unscored = {"n_unscored": found.unscored.sum(axis=1)}
    return {"value": groups.mean(found.value), "ci_low": low, "ci_high": high, **bounds, **unscored}


def _against(value: Floats, single: Floats | None, groups: Groups) -> dict[str, Floats]:
    """Best of N against one sample, on the same goals after as many iterations; unknown for one sample itself."""
    change = np.full_like(value, np.nan) if single is None else value - single
    low, high = groups.difference_interval(change)
    names = ("difference", "difference_ci_low", "difference_ci_high")
    columns = dict(zip(names, (groups.mean(change), low, high), strict=True))
    return columns if single is not None else {name: np.full(len(value), np.nan) for name in names}
