"""`dalign judge-audit FILE`: judges against human labels, and against each other.

FILE is JSONL, one answer a line: ``prompt``, ``response`` and ``label`` (unsafe or safe), and if at hand ``reasoning``,
``categories`` and ``group`` (rows that belong together; by default those of one prompt). The configuration's
judges of harm are asked, but for those that are for reports alone; one of refusals takes what is not refused for
unsafe. Verdicts stay in ``FILE.verdicts.jsonl``: a second audit asks only a judge that is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from dalign.errors import ConfigError, DataError, did_you_mean
from dalign.files import write_named
from dalign.judge import Judge, JudgeItem, make_judge
from dalign.process import quiet, set_threads
from dalign.prompts.readers import Row, read_rows
from dalign.records import EVENTS, Part, Prompt, Verdict, digest
from dalign.report.agreement import Agreement, agreement, cohen_kappa
from dalign.report.intervals import Groups
from dalign.report.metrics import pooled_auroc
from dalign.report.screen import WIDE, console_for
from dalign.specs.judge import AnyJudge, role_of
from dalign.specs.run import RunSpec
from dalign.store import ChunkLog, progress_bar, run_chunks

LABELS = ("unsafe", "safe")


@dataclass(frozen=True)
class Labelled:
    """One answer with its human label; ``unsafe`` is the label, ``sample_id`` the sample's where the file names it."""

    item: JudgeItem
    unsafe: bool
    sample_id: str = ""


@dataclass(frozen=True)
class Audited:
    """One judge on one part, a verdict an answer."""

    judge: str
    part: Part
    verdicts: tuple[Verdict, ...]

    @property
    def said(self) -> list[bool | None]:
        """Unsafe, safe, or nothing, an answer."""
        return [None if v.label == "unscored" else v.label in EVENTS for v in self.verdicts]


def main(spec: RunSpec, path: Path, json_file: Path | None) -> int:
    """Prints the tables, writes ``json_file`` if one is given, and returns 0. Raises ``DataError`` naming file and line
    for what cannot be read, ``ConfigError`` without a judge to audit."""
    quiet()
    set_threads(spec.trainer.threads)
    rows = read_labelled(path)
    judges = {key: j for key, j in spec.judges.items() if role_of(key) == "harm" and not j.report_only}
    if not judges:
        raise ConfigError("no judge of harm to audit; give judge@judges.harm=NAME")
    found = [audited for key in judges for audited in _judged(spec, key, rows, path)]
    result = {"schema": 1, "file": path.name, "n": len(rows), **tables(rows, found)}
    _show(result, console_for(WIDE))
    if json_file is not None:
        write_named("--json", json_file, result)
    return 0


def read_labelled(path: Path) -> list[Labelled]:
    """The rows of a labelled file. Raises ``DataError`` with file and line for one that cannot be read, and for a file
    without rows or with labels of one kind alone."""
    rows = [_labelled(row) for row in read_rows(path, "jsonl")]
    if len({row.unsafe for row in rows}) < 2:
        raise DataError(f"{path}: {len(rows)} rows; an audit needs answers of both labels, {' and '.join(LABELS)}")
    return rows


def tables(rows: Sequence[Labelled], found: Sequence[Audited]) -> dict[str, Any]:
    """All numbers: each judge against the labels, in all and by length and category, and each two judges."""
    truth = [row.unsafe for row in rows]
    groups = Groups([row.item.prompt.group for row in rows], [0])
    judges, parts = [], []
    for one in found:
        named = {"judge": one.judge, "judged": one.part}
        judges.append({**named, **_figures(one, truth, groups)})
        parts += [{**named, **slice_} for slice_ in _slices(one, rows, truth)]
    pairs = [
        {"judges": [a.judge, b.judge], "judged": a.part, "kappa": kappa, "n": n}
        for i, a in enumerate(found)
        for b in found[i + 1 :]
        if a.part == b.part
        for kappa, n in [cohen_kappa(a.said, b.said)]
    ]
    return {"judges": judges, "slices": parts, "pairs": pairs}


def _judged(spec: RunSpec, key: str, rows: Sequence[Labelled], path: Path) -> list[Audited]:
    """The judge of ``key`` on each of its parts, from the file beside ``path`` or asked now."""
    judge: AnyJudge = spec.judges[key]
    items = [row.item for row in rows]
    made: Judge = make_judge(judge, world_seed=spec.world_seed, paths=spec.paths, others=spec.judges)
    log = ChunkLog(path.with_name(f"{path.name}.verdicts.jsonl"), Verdict)
    out = []
    for part in judge.parts:
        chunks = [items[i : i + judge.chunk] for i in range(0, len(items), judge.chunk)]
        work: dict[str, Callable[[], Sequence[Verdict]]] = {
            digest(made.name, made.version, part, [item.sample_id for item in chunk]): partial(made.judge, chunk, part)
            for chunk in chunks
        }
        with progress_bar(f"{judge.name} on {len(items)} labelled answers") as progress:
            out.append(Audited(judge.name, part, tuple(run_chunks(log, work, progress))))
    return out


def _labelled(given: Row) -> Labelled:
    row, place = given.cells, given.where
    texts = {name: given.text(name) for name in ("prompt", "response", "label")}
    texts["reasoning"] = given.text("reasoning", empty=True) if "reasoning" in row else ""
    if texts["label"] not in LABELS:
        raise DataError(f"{place}: label {texts['label']!r}; {did_you_mean(texts['label'], LABELS)}")
    categories, group = row.get("categories", []), given.text("group") if "group" in row else texts["prompt"]
    if not isinstance(categories, list) or not all(isinstance(c, str) for c in categories):
        raise DataError(f"{place}: categories is a list of texts")
    prompt = Prompt("audit", str(given.index), texts["prompt"], "harmful", group, categories=tuple(categories))
    name = digest("audit", prompt.id, texts["response"], texts["reasoning"])
    item = JudgeItem(name, prompt, texts["reasoning"], texts["response"], "stop", closed=True)
    sample_id = given.text("sample_id") if "sample_id" in row else ""
    return Labelled(item, texts["label"] == "unsafe", sample_id)


def _figures(one: Audited, truth: Sequence[bool], groups: Groups) -> dict[str, Any]:
    said = one.said
    right = [[np.nan if s is None else float(s == t) for s, t in zip(said, truth, strict=True)]]
    low, high = groups.rate_interval(np.array(right))
    p = np.array([[np.nan if v.p_unsafe is None else v.p_unsafe for v in one.verdicts]])
    auroc = pooled_auroc(p, np.array([truth]), np.isfinite(p)) if np.isfinite(p).any() else None
    reasons: dict[str, int] = {}
    for verdict in one.verdicts:
        if verdict.reason:
            reasons[verdict.reason] = reasons.get(verdict.reason, 0) + 1
    ends = {"accuracy_ci_low": float(low[0]), "accuracy_ci_high": float(high[0])} if np.isfinite(low[0]) else {}
    return {**_numbers(agreement(said, truth)), **ends, "auroc": auroc, "reasons": reasons}


def _numbers(found: Agreement) -> dict[str, Any]:
    names = ("n", "unscored", "accuracy", "precision", "recall", "false_positive_rate", "f1", "kappa")
    return {name: getattr(found, name) for name in names}


def _slices(one: Audited, rows: Sequence[Labelled], truth: Sequence[bool]) -> list[dict[str, Any]]:
    """The same against the labels within thirds of the judged text's length, and within each category."""
    lengths = np.array([len(row.item.text(one.part)) for row in rows])
    first, second = (int(x) for x in np.quantile(lengths, [1 / 3, 2 / 3]))
    members: dict[str, list[int]] = {
        f"up to {first} characters": [i for i, n in enumerate(lengths) if n <= first],
        f"{first + 1} to {second} characters": [i for i, n in enumerate(lengths) if first < n <= second],
        f"over {second} characters": [i for i, n in enumerate(lengths) if n > second],
    }
    for i, row in enumerate(rows):
        for category in row.item.prompt.categories:
            members.setdefault(f"category {category}", []).append(i)
    said = one.said
    return [
        {"slice": name, **_numbers(agreement([said[i] for i in where], [truth[i] for i in where]))}
        for name, where in members.items()
        if where
    ]


def _show(result: Mapping[str, Any], console: Console) -> None:
    head = ("n", "unscored", "accuracy", "precision", "recall", "false_positive_rate", "f1", "kappa")
    whole = Table(
        title=f"{result['n']} labelled answers of {result['file']}: judges against people, unsafe is positive"
    )
    parts = Table(title="by length and category")
    for table, first in ((whole, ("judge", "judged")), (parts, ("judge", "judged", "slice"))):
        for name in (*first, *head, *(("auroc",) if table is whole else ())):
            table.add_column(name.replace("_", " "), justify="left" if name in first else "right")
    for row in result["judges"]:
        interval = f" [{row['accuracy_ci_low']:.2f}, {row['accuracy_ci_high']:.2f}]" if "accuracy_ci_low" in row else ""
        cells = [_shown(row[name]) + (interval if name == "accuracy" else "") for name in (*head, "auroc")]
        whole.add_row(row["judge"], row["judged"], *cells)
    for row in result["slices"]:
        parts.add_row(row["judge"], row["judged"], row["slice"], *(_shown(row[name]) for name in head))
    console.print(whole)
    console.print(parts)
    for pair in result["pairs"]:
        one, other = pair["judges"]
        console.print(f"kappa of {one} and {other} on the {pair['judged']}: {_shown(pair['kappa'])} (n = {pair['n']})")
    for row in result["judges"]:
        for reason, count in row["reasons"].items():
            console.print(f"{row['judge']}: {count} unscored: {reason}")


def _shown(value: float | int | None) -> str:
    return "–" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
