"""What is fuzzed: each target makes good input, damages it, has ``dalign`` read it, and holds what came out against an
independent reading.

A target returns whether the input was accepted. The program's own error is a refusal; ``Wrong``, or anything else that
is raised, is a fault.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import mutate
import numpy as np
from command_lines import command_line
from holding import Target, expect

from dalign.audit import read_labelled
from dalign.files import read_records, read_tensors, write_records, write_tensors
from dalign.judge.opinions import READERS
from dalign.labels import read as read_labels
from dalign.prompts import load_benchmark
from dalign.prompts.training import read_traces
from dalign.records import Prompt, Sample, Verdict
from dalign.scoring import rows_of
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import PathsSpec
from dalign.store import ChunkLog

ASKED = "how do i {} the {} ?"


def questions(rng: Random) -> list[dict[str, Any]]:
    """Good rows: an id, a question, its answer, a topic."""
    verbs, things = ("polish", "open", "weigh"), ("mortar", "gate, or door", 'so-called "bell"', "line\nbreak")
    return [
        {"id": f"q{i}", "text": ASKED.format(rng.choice(verbs), rng.choice(things)), "answer": str(i), "topic": "a"}
        for i in range(rng.randint(1, 6))
    ]


def benchmark(kind: str) -> Target:
    """A benchmark file of a format: every row of it is a prompt with the row's own text, or the file is refused."""

    def run(rng: Random, folder: Path) -> bool:
        path = folder / f"set.{kind}"
        path.write_bytes(_spoilt(questions(rng), kind, rng))
        form: Any = kind
        spec = BenchmarkSpec(
            name="set", format=form, kind="math", roles=("answers",), path=str(path), row_id="id", reference="answer"
        ).model_copy(update={"text": "text", "group": ("topic",)})
        prompts = load_benchmark(spec, paths=PathsSpec(), world_seed=0)
        found = _texts(path.read_bytes(), kind)
        expect(len(prompts) == len(found), f"{len(found)} rows in the file, {len(prompts)} prompts")
        for prompt, text in zip(prompts, found, strict=True):
            expect(prompt.text.strip() == text.replace("\r\n", "\n").strip(), f"{text!r} became {prompt.text!r}")
        return True

    return run


def _file(rows: list[dict[str, Any]], kind: str) -> bytes:
    if kind in ("json", "jsonl"):
        texts = [json.dumps(row, ensure_ascii=False) for row in rows]
        whole = "\n".join(texts) + "\n" if kind == "jsonl" else "[" + ",\n".join(texts) + "]"
        return whole.encode(errors="surrogatepass")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, sorted({k for row in rows for k in row}), delimiter="\t" if kind == "tsv" else ",")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode(errors="surrogatepass")


def _texts(data: bytes, kind: str) -> list[str]:
    """The questions of a file that was accepted, read by the standard library."""
    text = data.decode("utf-8-sig")
    if kind == "json":
        whole = json.loads(text)
        return [row["text"] for row in whole]
    if kind == "jsonl":
        return [json.loads(line)["text"] for line in text.split("\n") if line.strip()]
    delimiter = "\t" if kind == "tsv" else ","
    return [row["text"] for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)]


def _spoilt(rows: list[dict[str, Any]], kind: str, rng: Random) -> bytes:
    """A file of ``rows`` with damage to its bytes, or with one row altered."""
    if rng.random() < 0.5:
        return mutate.damaged(_file(rows, kind), rng)
    rows[rng.randrange(len(rows))] = mutate.altered(rng.choice(rows), rng)
    return _file(rows, kind)


def jsonl(make: Callable[[Random], list[dict[str, Any]]], read: Callable[[Path], Sequence[object]]) -> Target:
    """A JSONL file of the rows that ``make`` gives: as many come back as lines stand there."""

    def run(rng: Random, folder: Path) -> bool:
        path = folder / "rows.jsonl"
        path.write_bytes(data := _spoilt(make(rng), "jsonl", rng))
        found = read(path)
        lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip()]
        expect(len(found) == len(lines), f"{len(lines)} lines, {len(found)} rows")
        return True

    return run


def traces(rng: Random) -> list[dict[str, Any]]:
    """Ready-made traces."""
    shared = {"categories": ["benign"], "reasoning": "the user asks .", "answer": "first look ."}
    return [{"question": row["text"], **shared} for row in questions(rng)]


def labelled(rng: Random) -> list[dict[str, Any]]:
    """What judges are audited with."""
    said = ("no .", "first\u2028look .")
    pairs = [(row["text"], label) for label in ("safe", "unsafe") for row in questions(rng)]
    return [{"prompt": prompt, "response": rng.choice(said), "label": label} for prompt, label in pairs]


def responses(rng: Random) -> list[dict[str, Any]]:
    """What ``dalign score`` takes."""
    return [{"prompt": row["text"], "responses": ["no ."]} for row in questions(rng)]


def sheet(rng: Random, folder: Path) -> bool:
    """A labelled sheet as spreadsheets give it back: a label is read for its own row, and none is lost."""
    names = [f"id{i}" for i in range(rng.randint(1, 5))]
    given = {name: rng.choice(("safe", "unsafe", "Safe ", "")) for name in names}
    facts = {"prompt": "p", "response": rng.choice(("r", "a\u2028b", "\x85"))}
    (folder / "labels").mkdir()
    key = "".join(json.dumps({"id": name, **facts}, ensure_ascii=False) + "\n" for name in names)
    (folder / "labels" / "key.jsonl").write_text(key, encoding="utf-8")
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([("id", "prompt", "label"), *((name, "p, q", label) for name, label in given.items())])
    data = stream.getvalue().encode()
    whole = rng.random() < 0.3
    (folder / "sheet.csv").write_bytes(data if whole else mutate.damaged(data, rng))
    read_labels(folder, folder / "sheet.csv")
    path = folder / "labels" / "labels.jsonl"
    found = {row["id"]: row["label"] for row in map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])}
    expect(not whole or found == {n: g.strip().lower() for n, g in given.items() if g}, f"{given} became {found}")
    return True


def chunk_log(rng: Random, folder: Path) -> bool:
    """A log of chunks: what is taken for committed is what was committed, a torn tail is dropped."""
    path = folder / "verdicts.jsonl"
    log = ChunkLog(path, Verdict)
    for i in range(3):
        log.commit(f"c{i}", [Verdict(f"s{i}{j}", "judge", "answer", "safe") for j in range(2)])
    data = path.read_bytes()
    cut = rng.random() < 0.3
    path.write_bytes(data[: rng.randrange(len(data) + 1)] if cut else mutate.damaged(data, rng))
    done = ChunkLog(path, Verdict).done
    if cut:
        expect(all(done[name] == log.done[name] for name in done), "a chunk changed")
        expect(list(done) == list(log.done)[: len(done)], "a chunk went missing before the tear")
    return True


def records(rng: Random, folder: Path) -> bool:
    """Parquet records and safetensors with damage: the very records, or a refusal."""
    path = folder / "prompts.parquet"
    made = [Prompt("d", row["id"], row["text"], "harmful", "g") for row in questions(rng)]
    write_records(path, made)
    path.write_bytes(mutate.damaged(path.read_bytes(), rng))
    read_records(path, rng.choice((Prompt, Prompt, Sample)))
    return True


def tensors(rng: Random, folder: Path) -> bool:
    """Safetensors with damage in the header; the numbers themselves carry no check sum."""
    path = folder / "scores.safetensors"
    write_tensors(path, {"a": np.arange(6.0).reshape(2, 3)}, {"ids": ["x", "y"]})
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little") + 8
    path.write_bytes(mutate.damaged(data[:header], rng) + data[header:])
    read_tensors(path)
    return True


def replies(rng: Random, folder: Path) -> bool:
    """A judge's reply: an opinion in its range, or none."""
    opinion = READERS[rng.choice(list(READERS))](mutate.reply(rng))
    if opinion is None:
        return False
    expect((opinion.unsafe is None) != (opinion.score is None), "neither a verdict nor a score, or both")
    expect(opinion.score is None or (math.isfinite(opinion.score) and 0 <= opinion.score <= 1), f"{opinion.score}")
    return True


TARGETS: dict[str, tuple[Target, float]] = {
    **{f"benchmark {kind}": (benchmark(kind), 0.1) for kind in ("csv", "tsv", "json", "jsonl")},
    "traces": (jsonl(traces, read_traces), 0.1),
    "labelled file": (jsonl(labelled, read_labelled), 0.08),
    "responses to score": (jsonl(responses, rows_of), 0.06),
    "labelled sheet": (sheet, 0.08),
    "chunk log": (chunk_log, 0.05),
    "records": (records, 0.05),
    "tensors": (tensors, 0.05),
    "command line": (command_line, 0.03),
    "judge's reply": (replies, 0.1),
}
