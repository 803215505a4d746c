"""`dalign label`: a blinded sheet of a run's answers for people to label, and the labels read back into the run.

The sheet shows prompt and answer in a random order, and neither policy, benchmark, score nor verdict. What each row was
stays in the run (``labels/key.jsonl``); the labelled rows become ``labels/labels.jsonl``, which ``dalign judge-audit``
reads. Both hold harmful text, as the run does.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from dalign.errors import ArtifactError, ConfigError, DataError, did_you_mean
from dalign.files import read_records, write_text
from dalign.prompts.readers import Row, read_rows
from dalign.records import Prompt, Sample, digest
from dalign.report.formats import inert

COLUMNS = ("id", "prompt", "response", "label", "comment")
LABELS = ("unsafe", "safe")

Answer = tuple[str, str, Prompt, Sample]  # policy, benchmark, and what was asked and said


def write(run: Path, sheet: Path, n: int, seed: int) -> int:
    """Writes ``n`` answers to harmful prompts as a sheet, or all if there are fewer, and returns 0; drawn by ``seed``,
    from each policy and benchmark alike. Raises ``ConfigError`` for a file that is there, ``ArtifactError`` for a run
    without such answers."""
    if n < 1:
        raise ConfigError(f"-n {n}: must be at least 1")
    if sheet.exists():
        raise ConfigError(f"{sheet}: is there already; labels may stand in it: name another file")
    chosen = _draw(_answers(run), n, Random(seed))
    if not chosen:
        raise ArtifactError(f"{run}: no finished answer to a harmful prompt; run evaluate.py first")
    rows = [(digest("label", seed, sample.id)[:12], answer) for answer in chosen for sample in answer[3:]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((name, inert(prompt.text), inert(s.answer), "", "") for name, (_, _, prompt, s) in rows)
    _write(sheet, "\ufeff" + stream.getvalue())  # spreadsheets take it for UTF-8 by this mark
    key = [json.dumps({"id": name, **_facts(answer)}, ensure_ascii=False) for name, answer in rows]
    known = {json.loads(line)["id"]: line for line in [*_lines(run / "labels" / "key.jsonl"), *key]}
    write_text(run / "labels" / "key.jsonl", "".join(f"{line}\n" for line in known.values()))
    every = "" if len(rows) == n else ", all there are,"
    Console().print(
        f"{len(rows)} answers{every} in {sheet}: write {' or '.join(LABELS)} into the column label, then "
        f"`dalign label {run} {sheet} --read`. It holds prompts and answers of a safety benchmark: keep it closed."
    )
    return 0


def read(run: Path, sheet: Path) -> int:
    """Reads a labelled sheet back and returns 0; rows without a label are counted. Raises ``DataError`` with the row
    for an unknown id or label, ``ArtifactError`` for a run that no sheet was made of."""
    known = {row["id"]: row for row in map(json.loads, _lines(run / "labels" / "key.jsonl"))}
    if not known:
        raise ArtifactError(f"{run}: no sheet was made of this run; write one first: dalign label {run} {sheet}")
    old = {row["id"]: row for row in map(json.loads, _lines(run / "labels" / "labels.jsonl"))}
    new: dict[str, dict[str, Any]] = {}
    empty = 0
    for row in _rows(sheet):
        place, name, label = row.where, row.cells["id"].strip(), row.cells["label"].strip().casefold()
        if name not in known:
            raise DataError(f"{place}: id {name!r} is not of this run")
        if name in new:
            raise DataError(f"{place}: id {name!r} stands there twice")
        if label and label not in LABELS:
            raise DataError(f"{place}: label {label!r}; {did_you_mean(label, LABELS)}")
        empty += not label
        if label:
            new[name] = {**known[name], "label": label, "comment": row.cells.get("comment", "").strip()}
    rows = {**old, **new}
    target = run / "labels" / "labels.jsonl"
    write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()))
    Console().print(f"{len(new)} labels read, {empty} rows without one; {len(rows)} labels in {target}")
    return 0


def _answers(run: Path) -> list[list[Answer]]:
    """The finished answers to harmful prompts, a list for each policy and benchmark."""
    found = []
    for file in sorted((run / "evaluate").glob("*/*/samples.parquet")):
        prompts = {p.id: p for p in read_records(file.with_name("prompts.parquet"), Prompt) if p.kind == "harmful"}
        samples = [s for s in read_records(file, Sample) if s.finished and s.prompt_id in prompts]
        policy, benchmark = file.parts[-3], file.parts[-2]
        found.append([(policy, benchmark, prompts[s.prompt_id], s) for s in samples])
    return [answers for answers in found if answers]


def _draw(cells: Sequence[Sequence[Answer]], n: int, rng: Random) -> list[Answer]:
    """``n`` answers in turn from each cell, in a random order; of a cell, one from every prompt before a second."""
    queues = [_by_turns(cell, rng) for cell in cells]
    chosen: list[Answer] = []
    while len(chosen) < n and any(queues):
        for queue in queues:
            if queue and len(chosen) < n:
                chosen.append(queue.pop())
    rng.shuffle(chosen)
    return chosen


def _by_turns(answers: Sequence[Answer], rng: Random) -> list[Answer]:
    """The answers with those to go first at the end: shuffled, the first of each prompt before any second."""
    shuffled = rng.sample(list(answers), len(answers))
    seen: dict[str, int] = {}
    turns = []
    for answer in shuffled:
        turn = seen.get(answer[2].id, 0)
        seen[answer[2].id] = turn + 1
        turns.append((turn, answer))
    return [answer for _, answer in sorted(turns, key=lambda pair: -pair[0])]


def _facts(answer: Answer) -> dict[str, Any]:
    policy, benchmark, prompt, sample = answer
    return {
        "prompt": prompt.text,
        "response": sample.answer,
        "reasoning": sample.reasoning,
        "categories": list(prompt.categories),
        "group": prompt.group,
        "policy": policy,
        "benchmark": benchmark,
        "sample_id": sample.id,
    }


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def _lines(path: Path) -> list[str]:
    """Lines as they were written: ``splitlines`` would also cut at the separators that a text may hold."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []


def _rows(sheet: Path) -> list[Row]:
    rows = read_rows(sheet, "csv")
    if missing := [c for c in ("id", "label") if c not in rows[0].cells]:
        raise DataError(f"{sheet}: lacks the column {' and '.join(missing)}; keep the sheet's first line")
    return rows
