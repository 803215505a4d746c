"""What a run brings to the tables of many: its rates, its rates layer by layer, response lengths, and attacks on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dalign.files import read_json
from dalign.layout import ADAPTER_POLICIES
from dalign.report.candidates import BEST_LAYER
from dalign.report.configurations import ONE_ANSWER, Entry
from dalign.report.rows import Row
from dalign.report.tables import Report, is_headline, sections

METRICS = ("asr", "non_refusal_rate", "accuracy")
QUARTILES = (0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class LayerRate:
    """What a selector gives at one of the ``n_layers`` + 1 layers, in [0, 1]. ``fixed`` marks the layer that was fixed
    beforehand."""

    configuration: tuple[str, str, str, str]
    benchmark: str
    selector: str
    layer: int
    n_layers: int
    value: float
    fixed: bool


@dataclass(frozen=True)
class Lengths:
    """Of ``n`` responses the quartiles and the 95th percentile of their tokens, and the share that was cut off."""

    configuration: tuple[str, str, str, str]
    benchmark: str
    n: int
    tokens: tuple[float, float, float, float]
    cut: float


@dataclass(frozen=True)
class RunFacts:
    """All of it, of one run; ``attacks`` are the rows of ``attack/*/results.json``, the last iteration of each."""

    source: str
    folder: Path
    entries: tuple[Entry, ...]
    layers: tuple[LayerRate, ...]
    lengths: tuple[Lengths, ...]
    attacks: tuple[dict[str, Any], ...]


def facts_of(report: Report) -> RunFacts:
    """What the report of a run brings. Raises ``ArtifactError`` for a damaged result file of an attack."""
    return RunFacts(
        _source(report),
        report.run.folder,
        tuple(of_report(report)),
        tuple(_layers(report)),
        tuple(_lengths(report)),
        tuple(_attacks(report.run.folder)),
    )


def of_report(report: Report) -> list[Entry]:
    """The rates of a run's report, at the headline's layer where a selector has layers."""
    found = []
    temperature = report.run.cells[0].config["sampler"].get("temperature")
    for row in _first_rows(report):
        best = row.selector.startswith(BEST_LAYER)
        if row.value is None or (row.layer not in (None, report.headline.layer) and not best):
            continue
        at = "" if row.layer is None or best else f", layer {row.layer}"
        name = ONE_ANSWER if row.selector == "mean" else f"{row.selector}{at}"
        place = _configuration(report, row.policy, row.teacher, row.model)
        found.append(
            Entry(
                *place,
                selector=name,
                benchmark=row.benchmark,
                rate=row.value,
                higher=row.metric == "accuracy",
                peeks=row.peeks,
                temperature=temperature,
                headline=is_headline(row, report.headline),
            )
        )
    return found


def _first_rows(report: Report) -> Iterator[Row]:
    """The rows by which a benchmark is told: those of its first safety judge, or of its strict reading."""
    firsts: dict[tuple[str, str], tuple[str, str, str | None, str]] = {}
    for section in sections(report):
        if section.metric in METRICS:
            told = (section.metric, section.judge, section.reading, section.judged)
            for line in section.lines:
                firsts.setdefault((line.single.policy, line.single.benchmark), told)
    for row in report.rows:
        told_by = (row.metric, row.judge, row.reading, row.judged)
        if row.subset == "all" and firsts.get((row.policy, row.benchmark)) == told_by:
            yield row


def _source(report: Report) -> str:
    """The run's name; its folder's, where the folder was copied or renamed."""
    name, folder = str(report.run.cells[0].config["run"]), report.run.folder.name
    return name if Path(name).name == folder else folder


def _configuration(report: Report, policy: str, teacher: str, model: str) -> tuple[str, str, str, str]:
    """Source, stage, teacher and student. A run against a second checkpoint (``model.base=``) is a stage of its own, as
    the paper's instruct against pretrained is."""
    other = report.run.cells[0].config["model"].get("base")
    stage = f"{policy} against {other}" if other and policy in ADAPTER_POLICIES else policy
    return _source(report), stage, teacher, model


def _layers(report: Report) -> Iterator[LayerRate]:
    headline = report.headline
    selector = headline.selector if headline.layer is not None else "similarity_argmin"
    depth = {cell.policy: cell.n_layers for cell in report.run.cells if cell.n_layers}
    for row in _first_rows(report):
        if row.selector == selector and row.layer is not None and row.value is not None and not row.peeks:
            yield LayerRate(
                configuration=_configuration(report, row.policy, row.teacher, row.model),
                benchmark=row.benchmark,
                selector=selector,
                layer=row.layer,
                n_layers=depth[row.policy] or 0,
                value=row.value,
                fixed=row.layer == headline.layer,
            )


def _lengths(report: Report) -> Iterator[Lengths]:
    for cell in report.run.cells:
        names = (str(cell.config[key]["name"]) for key in ("teacher", "model"))
        tokens = tuple(float(x) for x in np.quantile(cell.lengths_PN, QUARTILES))
        yield Lengths(
            configuration=_configuration(report, cell.policy, *names),
            benchmark=cell.benchmark,
            n=cell.lengths_PN.size,
            tokens=(tokens[0], tokens[1], tokens[2], tokens[3]),
            cut=float(cell.truncated_PN.mean()),
        )


def _attacks(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of PAIR by the judges it was reported by, of the attempt an attacker would submit, after the last
    iteration."""
    for path in sorted((folder / "attack").glob("*/results.json")):
        rows = [row for row in read_json(path)["rows"] if row.get("pick") == "submitted" and not row["is_attack_judge"]]
        last = max((row["iteration"] for row in rows), default=0)
        yield from (row for row in rows if row["iteration"] == last)
