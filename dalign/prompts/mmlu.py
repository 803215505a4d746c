"""Reads MMLU as published: its authors' CSV files, or the Parquet files of their hub data set, one file a subject.

``<split>/<subject>_<split>.csv`` has no header: question, four choices, letter. ``<subject>/<split>-*.parquet`` has the
columns question, choices and answer (0 to 3). Cells stay text, also where they read ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from dalign.errors import DataError, did_you_mean
from dalign.prompts.readers import Row, read_rows, records_of
from dalign.prompts.sources import source_files
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import PathsSpec

LETTERS = ("A", "B", "C", "D")
QUESTION, SUBJECT, ANSWER, ROW = "question", "subject", "answer", "row"
# "A. text" and "(A) text" on lines of their own, or "a text b text c text d text" at the end of one.
_ON_LINES = re.compile(r"^\s*\(?([A-D])[.):]\s+(.+?)\s*$", re.MULTILINE)
_IN_LINE = re.compile(r"(?<!\S)a (.+?) b (.+?) c (.+?) d (.+?)\s*$", re.IGNORECASE)
_NO_SUBJECT = ("all", "auxiliary_train")  # folders of the hub data set beside its subjects'


def mmlu_rows(spec: BenchmarkSpec, key: str, paths: PathsSpec) -> list[Row]:
    """One row a question with the columns question (choices below it), subject, answer and row (``subject/number``).

    ``spec.subjects`` empty takes every subject there is. Raises ``DataError`` for a missing folder or subject, and for
    a row without four choices or with another answer than one of them.
    """
    found = source_files(spec, key, paths, lambda names: _hub_files(spec, key, names))
    files = _local_files(found[0], spec, key) if spec.path is not None else [(f.parent.name, f) for f in found]
    rows: list[Row] = []
    for subject, file in files:
        read = list(_csv_rows(file, subject) if spec.path is not None else _parquet_rows(file, subject))
        if not read:
            raise DataError(f"{file}: holds no rows")
        rows += [Row(row.where, len(rows) + i, row.cells) for i, row in enumerate(read)]
    return rows


def _local_files(folder: Path, spec: BenchmarkSpec, key: str) -> list[tuple[str, Path]]:
    ending = f"_{spec.split}.csv"
    place = folder / spec.split
    there = sorted(p.name.removesuffix(ending) for p in place.glob(f"*{ending}"))
    if not there:
        raise DataError(f"{key}.path={spec.path}: no <subject>{ending} in {place}")
    return [(subject, place / f"{subject}{ending}") for subject in _wanted(spec, key, there, str(place))]


def _hub_files(spec: BenchmarkSpec, key: str, names: Sequence[str]) -> list[str]:
    """The hub's files of the wanted subjects, in the subjects' order."""
    of_split = sorted(name for name in names if fnmatch(name, f"*/{spec.split}-*.parquet"))
    there = [s for s in dict.fromkeys(name.partition("/")[0] for name in of_split) if s not in _NO_SUBJECT]
    wanted = _wanted(spec, key, there, str(spec.hub_id))
    return [name for subject in wanted for name in of_split if name.startswith(f"{subject}/")]


def _wanted(spec: BenchmarkSpec, key: str, there: Sequence[str], place: str) -> Sequence[str]:
    for subject in spec.subjects:
        if subject not in there:
            raise DataError(
                f"{key}.subjects: no {subject} of split {spec.split} in {place}; {did_you_mean(subject, there)}"
            )
    return spec.subjects or there


def _csv_rows(file: Path, subject: str) -> Iterator[Row]:
    for number, (line, cells) in enumerate(records_of(file)):
        where = f"{file}:{line}"
        if len(cells) != 2 + len(LETTERS):
            raise DataError(f"{where}: {len(cells)} cells, MMLU has 6: question, four choices, letter")
        question, *choices, letter = cells
        if letter.strip() not in LETTERS:
            raise DataError(f"{where}: the last cell must be one of {', '.join(LETTERS)}, it reads {letter[:20]!r}")
        yield _row(where, subject, number, question, choices, letter.strip())


def _parquet_rows(file: Path, subject: str) -> Iterator[Row]:
    for row in read_rows(file, "parquet"):
        choices, answer = row.cell("choices"), row.cell("answer")
        if not isinstance(choices, list) or [type(choice) for choice in choices] != [str] * len(LETTERS):
            raise DataError(f"{row.where}: choices must be a list of {len(LETTERS)} texts")
        if answer not in range(len(LETTERS)):
            raise DataError(f"{row.where}: answer must be a number from 0 to {len(LETTERS) - 1}, it reads {answer!r}")
        yield _row(row.where, subject, row.index, row.text("question", empty=True), choices, LETTERS[answer])


def _row(where: str, subject: str, number: int, question: str, choices: Sequence[str], letter: str) -> Row:
    listed = "\n".join(f"{name}. {choice}" for name, choice in zip(LETTERS, choices, strict=True))
    text = f"{question}\n{listed}" if question.strip() else ""
    return Row(where, number, {QUESTION: text, SUBJECT: subject, ANSWER: letter, ROW: f"{subject}/{number}"})


def choices(text: str) -> dict[str, str]:
    """The choices that stand in a prompt by their letters A to D; empty where they cannot be told."""
    if len(listed := dict(_ON_LINES.findall(text))) == len(LETTERS) == len(_ON_LINES.findall(text)):
        return listed
    match = _IN_LINE.search(text)
    return dict(zip(LETTERS, match.groups(), strict=True)) if match else {}
