"""Training prompts and ready-made traces: the embedded world's, STAR-1, STAR-41K, the authors' sets, plain JSONL.

A fault in a file stops the load with file and line. What a teacher did wrong (reasoning that was never closed) is no
fault of the file: such a trace is loaded, and marked as dropped with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from dalign.categories import BENIGN, categories_of
from dalign.errors import DataError, did_you_mean
from dalign.prompts.grouping import group_names, normalised
from dalign.prompts.readers import Row, read_rows, source_ids
from dalign.prompts.sources import source_rows
from dalign.prompts.spread import spread
from dalign.records import FinishReason, Prompt, Trace
from dalign.specs.data import DatasetSpec
from dalign.specs.run import PathsSpec

OPEN, CLOSE = "<think>", "</think>"
UNCLOSED = "unclosed"
WORLDS_OWN = ("toy", "toy_requests")


@dataclass(frozen=True)
class Columns:
    """The columns of a format. ``response`` holds reasoning, closing tag and answer; else they stand apart."""

    question: str = "question"
    category: str = "category"
    response: str | None = "response"


_COLUMNS = {
    "star1": Columns(),
    "star41k": Columns(response=None),
    "published": Columns(),
    "jsonl": Columns(category="categories", response=None),
}


def load_dataset(
    spec: DatasetSpec, *, paths: PathsSpec, world_seed: int, limit: int | None = None
) -> tuple[Prompt, ...]:
    """The training prompts of ``spec``, of its ``kinds``, evenly thinned to ``limit``; equal questions share a group.

    Raises ``DataError`` for a missing, torn, empty or malformed source, for an unknown category, and where no prompt is
    of these kinds.
    """
    if spec.format in WORLDS_OWN:
        prompts = _of_the_world(spec, world_seed)
    else:
        prompts = _prompts(spec, source_rows(spec, "dataset", paths))
    kept = [prompt for prompt, wanted in zip(prompts, _of_kinds(spec, prompts), strict=True) if wanted]
    return spread(kept, limit, [0] * len(kept))


def load_traces(
    spec: DatasetSpec, *, paths: PathsSpec, world_seed: int = 0, limit: int | None = None
) -> tuple[Trace, ...]:
    """The ready-made traces of ``spec``, of its ``kinds``, evenly thinned to ``limit``.

    A trace whose reasoning is not closed comes with ``dropped`` set. Raises ``DataError`` as ``load_dataset`` does,
    for an empty response, and for a data set that has no traces.
    """
    if spec.format in (*WORLDS_OWN, "star41k") or not spec.has_traces:
        raise DataError(
            f"dataset={spec.name}: holds prompts without reasoning and answers; "
            "take teacher=toy or another model to write them, or dataset=star1, published or local"
        )
    rows = source_rows(spec, "dataset", paths)
    prompts = _prompts(spec, rows)
    traces = [_trace(spec, row, prompt) for row, prompt in zip(rows, prompts, strict=True)]
    kept = [trace for trace, wanted in zip(traces, _of_kinds(spec, prompts), strict=True) if wanted]
    return spread(kept, limit, [0] * len(kept))


def read_traces(path: Path) -> tuple[Trace, ...]:
    """The traces of one JSONL file: this program's own records, or plain rows of the ``jsonl`` format.

    Plain rows take the file's name as their teacher. Raises ``DataError`` naming file and line.
    """
    rows = read_rows(path, "jsonl")
    if "schema" not in rows[0].cells:
        spec = DatasetSpec(name=path.stem, format="jsonl", path=str(path), has_traces=True)
        return tuple(_trace(spec, row, prompt) for row, prompt in zip(rows, _prompts(spec, rows), strict=True))
    return tuple(_record(row) for row in rows)


def split_response(text: str) -> tuple[str, str, bool]:
    """(reasoning, answer, closed) at the first closing tag; an opening tag in front is taken off."""
    reasoning, tag, answer = text.partition(CLOSE)
    return reasoning.strip().removeprefix(OPEN).strip(), answer.strip(), bool(tag)


def _of_the_world(spec: DatasetSpec, world_seed: int) -> Sequence[Prompt]:
    from dalign.prompts.toy_requests import toy_requests
    from dalign.toy.prompts import TRAIN
    from dalign.toy.world import World

    world = World.of(world_seed)
    return world.prompts(TRAIN) if spec.format == "toy" else toy_requests(world)


def _of_kinds(spec: DatasetSpec, prompts: Sequence[Prompt]) -> list[bool]:
    """Whether each prompt is of the kinds asked for. Raises ``DataError`` if none is."""
    wanted = [spec.kinds is None or prompt.kind in spec.kinds for prompt in prompts]
    if not any(wanted):
        there = ", ".join(sorted({prompt.kind for prompt in prompts}))
        raise DataError(f"dataset.kinds={list(spec.kinds or ())}: dataset={spec.name} has none of them, only {there}")
    return wanted


def _prompts(spec: DatasetSpec, rows: Sequence[Row]) -> list[Prompt]:
    columns = _COLUMNS[spec.format]
    texts = [row.text(columns.question) for row in rows]
    ids = source_ids(rows, "id" if "id" in rows[0].cells else None)
    groups = group_names(ids, [[normalised(text) for text in texts]])
    return [
        _prompt(spec, row, columns, text, name, group)
        for row, text, name, group in zip(rows, texts, ids, groups, strict=True)
    ]


def _prompt(spec: DatasetSpec, row: Row, columns: Columns, text: str, name: str, group: str) -> Prompt:
    categories: tuple[str, ...] = ()
    if not (spec.format == "jsonl" and spec.has_traces and columns.category not in row.cells):
        categories = categories_of(row.cell(columns.category), row.where)
    kind: Any = "benign" if categories == (BENIGN,) else "harmful"
    return Prompt(spec.name, name, text, kind, group, categories=categories)


def _trace(spec: DatasetSpec, row: Row, prompt: Prompt) -> Trace:
    columns = _COLUMNS[spec.format]
    response = columns.response or ("response" if "reasoning" not in row.cells and "response" in row.cells else None)
    drawn = spec.format == "published"  # unchecked draws of a teacher: what is missing in one is for the filter to say
    if response is not None:
        reasoning, answer, closed = split_response(row.text(response, empty=drawn))
    else:
        reasoning, answer, closed = row.text("reasoning").strip(), row.text("answer").strip(), True
        if CLOSE in reasoning:
            raise DataError(f"{row.where}: the reasoning holds {CLOSE}, where it would end; cut it there")
    if closed and not answer and not drawn:
        raise DataError(f"{row.where}: the response has no answer after {CLOSE}; complete the row or take it out")
    return Trace(
        prompt_id=prompt.id,
        question=prompt.text,
        categories=prompt.categories,
        reasoning=reasoning,
        answer=answer,
        teacher=spec.name,
        finish_reason="stop",
        dropped="" if closed else UNCLOSED,
        row=prompt.row,
    )


def _record(row: Row) -> Trace:
    try:
        trace = Trace.from_dict(row.cells)
    except ValueError as error:
        raise DataError(f"{row.where}: not a trace record: {error}") from error
    for name in ("prompt_id", "question", "reasoning", "answer", "teacher", "dropped", "row"):
        row.text(name, empty=True)
    if not isinstance(trace.categories, tuple) or not isinstance(trace.policies, tuple):
        raise DataError(f"{row.where}: categories and policies must be lists of labels")
    if not trace.dropped and not trace.answer.strip():
        raise DataError(f"{row.where}: a kept trace with an empty answer; take it out or mark it as dropped")
    if trace.finish_reason not in get_args(FinishReason):
        known = did_you_mean(str(trace.finish_reason), get_args(FinishReason))
        raise DataError(f"{row.where}: finish_reason {trace.finish_reason!r}; {known}")
    return trace
