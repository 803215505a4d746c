"""Reads the result files that the paper's authors publish, and refuses a row it cannot read by its file and line.

``mulit_generation_<d>.csv`` holds prompt, response and label; a second file of the benchmark, named
``mulit_generation_self_base_embedding_similarity_<d>.csv``, a similarity besides (``embedding_similairty``, as they
spell it). A cell holds the N items of a prompt, joined by ``__SEPERATOR__``; a similarity item one float a layer, the
embeddings first, joined by ``_``. GSM8K has golden_answer in the place of label; MMLU has its responses in
``category``, and its subjects in ``response``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from dalign.errors import DataError
from dalign.prompts.benchmarks import gold_letter, gold_number
from dalign.prompts.mmlu import choices
from dalign.prompts.readers import Row, read_rows
from dalign.records import Kind

SEPARATOR = "__SEPERATOR__"
SIMILARITY = "embedding_similairty"
# Python's float() would take "0.9_1" for 0.91, and the sign in 1e-05 is no end of a number.
_FLOAT = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", re.ASCII)
_LARGEST = 1.1  # of a cosine: bfloat16 gives a little more than 1
_SHOWN = 20
_NAME = re.compile(r"mulit_generation_(?:self_base_embedding_similarity_)?(?P<name>.+)")

T = TypeVar("T")


@dataclass(frozen=True)
class Published:
    """One row: a prompt with its N responses. ``unsafe`` are the published labels, ``gold`` the right answer,
    ``similarity_NL`` a float for each response and layer; None where the file has none."""

    where: str
    prompt: str
    responses: tuple[str, ...]
    subset: str = ""
    unsafe: tuple[bool, ...] | None = None
    gold: str | None = None
    similarity_NL: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class ResultFile:
    """The rows of one result file, of the ``kind`` of prompt that its columns tell."""

    path: Path
    kind: Kind
    rows: tuple[Published, ...]


def benchmark_of(path: Path) -> str:
    """The benchmark that a file's name tells, ``dan`` of ``mulit_generation_DAN.csv``; ``DataError`` for another."""
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataError(
            f"{path}: its name is not mulit_generation_<benchmark>.csv; name the benchmark: --benchmark NAME"
        )
    return match["name"].casefold()


def read_result_file(path: Path) -> ResultFile:
    """The rows of ``path``. Raises ``DataError`` with every row that is refused, and for columns of no known kind."""
    rows = read_rows(path, "csv")
    columns = rows[0].cells.keys()
    kind: Kind = "choice" if "category" in columns else "math" if "label" not in columns else "harmful"
    if kind == "math" and not {"golden_answer", SIMILARITY} & columns:
        raise DataError(
            f"{path}: has neither label, golden_answer nor {SIMILARITY}; these are not the columns of a result file"
        )
    read, refused = list[Published](), list[str]()
    for row in rows:
        try:
            read.append(_same_shape(_published(row, kind), read[0] if read else None))
        except DataError as error:
            refused.append(str(error))
    _tell(path, refused)
    return ResultFile(path, kind, tuple(read))


def joined(files: Sequence[ResultFile]) -> ResultFile:
    """One or two files of the same prompts and responses as one, with what either knows.

    Raises ``DataError`` where they differ in prompts, responses or labels, and where no file has labels or answers.
    """
    first = files[0]
    for other in files[1:]:
        if (other.kind, len(other.rows)) != (first.kind, len(first.rows)):
            raise DataError(
                f"{other.path}: {len(other.rows)} {other.kind} rows, and {first.path} has {len(first.rows)} "
                f"{first.kind} ones; give two files of one benchmark"
            )
        refused, rows = list[str](), list[Published]()
        for one, more in zip(first.rows, other.rows, strict=True):
            try:
                rows.append(_merged(one, more))
            except DataError as error:
                refused.append(str(error))
        _tell(other.path, refused)
        first = replace(first, rows=tuple(rows))
    if any(row.unsafe is None and row.gold is None for row in first.rows):
        raise DataError(
            f"{first.path}: has neither labels nor gold answers; give the file of its benchmark that has them, too"
        )
    return first


def _published(row: Row, kind: Kind) -> Published:
    responses = _items(row, "category" if kind == "choice" else "response")
    gold = _one(row, "golden_answer" if "golden_answer" in row.cells else "label") if kind != "harmful" else None
    prompt = _one(row, "prompt") or ""
    return Published(
        where=row.where,
        prompt=prompt,
        responses=responses,
        subset=row.text("response").strip() if kind == "choice" else "",
        unsafe=_each(row, "label", _unsafe, responses) if kind == "harmful" else None,
        gold=_gold(gold, kind, prompt, row.where) if gold is not None else None,
        similarity_NL=_each(row, SIMILARITY, _floats, responses) if SIMILARITY in row.cells else None,
    )


def _gold(text: str, kind: Kind, prompt: str, where: str) -> str:
    """The gold number, or the gold letter, which may be given by what its choice says."""
    if kind == "math":
        return gold_number(text, where)
    said = [letter for letter, choice in choices(prompt).items() if choice.casefold() == text.strip().casefold()]
    return said[0] if len(said) == 1 else gold_letter(text, where)


def _items(row: Row, column: str) -> tuple[str, ...]:
    return tuple(row.text(column).split(SEPARATOR))


def _one(row: Row, column: str) -> str | None:
    """The one text of a cell, which may stand there once or for each response; None without the column."""
    if column not in row.cells:
        return None
    found = set(_items(row, column))
    if len(found) > 1:
        raise DataError(f"{row.where}: column {column!r} holds {len(found)} different items, a row has one of them")
    return found.pop()


def _each(row: Row, column: str, read: Callable[[str], T], responses: Sequence[str]) -> tuple[T, ...]:
    """What ``read`` makes of each item of a cell, of which there must be one a response."""
    items = _items(row, column)
    if len(items) != len(responses):
        raise DataError(f"{row.where}: {len(items)} items in column {column!r}, and {len(responses)} responses")
    try:
        return tuple(map(read, items))
    except ValueError as error:
        raise DataError(f"{row.where}: column {column!r}: {error}") from error


def _unsafe(item: str) -> bool:
    if item.strip() not in ("0", "1"):
        raise ValueError(f"label {item.strip()[:20]!r}; 1 (safe) or 0 (unsafe) is expected")
    return item.strip() == "0"


def _floats(item: str) -> tuple[float, ...]:
    values = []
    for text in item.strip().split("_"):
        if not _FLOAT.fullmatch(text) or abs(float(text)) > _LARGEST:
            raise ValueError(f"{text[:20]!r} is no cosine, a number from -1 to 1")
        values.append(float(text))
    return tuple(values)


def _same_shape(row: Published, first: Published | None) -> Published:
    """The row, if it has as many responses as the first one, and as many layers everywhere."""
    if first is not None and len(row.responses) != len(first.responses):
        raise DataError(f"{row.where}: {len(row.responses)} responses, and {first.where} has {len(first.responses)}")
    depths = {len(values) for one in (row, first) if one for values in one.similarity_NL or ()}
    if len(depths) > 1:
        raise DataError(
            f"{row.where}: similarities of {' and '.join(map(str, sorted(depths)))} layers; one is expected"
        )
    return row


def _merged(one: Published, other: Published) -> Published:
    for name in ("prompt", "responses", "subset"):
        if getattr(one, name) != getattr(other, name):
            raise DataError(f"{other.where}: another {name.rstrip('s')} than {one.where} has")
    for name in ("unsafe", "gold", "similarity_NL"):
        mine, theirs = getattr(one, name), getattr(other, name)
        if mine is not None and theirs is not None and mine != theirs:
            raise DataError(f"{other.where}: column of {name.partition('_')[0]} differs from that of {one.where}")
    return replace(
        one,
        unsafe=one.unsafe if one.unsafe is not None else other.unsafe,
        gold=one.gold if one.gold is not None else other.gold,
        similarity_NL=one.similarity_NL if one.similarity_NL is not None else other.similarity_NL,
    )


def _tell(path: Path, refused: Sequence[str]) -> None:
    if refused:
        more = f"\n  and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        shown = "".join(f"\n  {text}" for text in refused[:_SHOWN])
        raise DataError(f"{path}: {len(refused)} rows are refused, and nothing is imported:{shown}{more}")
