"""Reads MMLU as published: one header-less CSV a subject, ``<split>/<subject>_<split>.csv``, six cells a row.

The cells are question, four choices, and the letter of the right one. They stay text, also where they read ``None``.
"""

from __future__ import annotations

from pathlib import Path

from dalign.errors import DataError, did_you_mean
from dalign.prompts.readers import Row, records_of
from dalign.specs.data import BenchmarkSpec

LETTERS = ("A", "B", "C", "D")
QUESTION, SUBJECT, ANSWER, ROW = "question", "subject", "answer", "row"


def mmlu_rows(folder: Path, spec: BenchmarkSpec) -> list[Row]:
    """One row a question with the columns question (choices below it), subject, answer and row (``subject/number``).

    ``spec.subjects`` empty takes every subject there is. Raises ``DataError`` for a missing folder or subject, and for
    a row without six cells or with another letter.
    """
    ending = f"_{spec.split}.csv"
    place = folder / spec.split
    there = sorted(p.name.removesuffix(ending) for p in place.glob(f"*{ending}"))
    if not there:
        raise DataError(f"benchmark.{spec.name}.path={spec.path}: no <subject>{ending} in {place}")
    rows: list[Row] = []
    for subject in spec.subjects or tuple(there):
        if subject not in there:
            raise DataError(
                f"benchmark.{spec.name}.subjects: no {subject}{ending} in {place}; {did_you_mean(subject, there)}"
            )
        rows += _subject_rows(place / f"{subject}{ending}", subject, len(rows))
    return rows


def _subject_rows(file: Path, subject: str, start: int) -> list[Row]:
    rows: list[Row] = []
    for number, (line, cells) in enumerate(records_of(file)):
        where = f"{file}:{line}"
        if len(cells) != 2 + len(LETTERS):
            raise DataError(f"{where}: {len(cells)} cells, MMLU has 6: question, four choices, letter")
        question, *choices, letter = cells
        if letter.strip() not in LETTERS:
            raise DataError(f"{where}: the last cell must be one of {', '.join(LETTERS)}, it reads {letter[:20]!r}")
        listed = "\n".join(f"{name}. {choice}" for name, choice in zip(LETTERS, choices, strict=True))
        text = f"{question}\n{listed}" if question.strip() else ""
        cell = {QUESTION: text, SUBJECT: subject, ANSWER: letter.strip(), ROW: f"{subject}/{number}"}
        rows.append(Row(where, start + number, cell))
    if not rows:
        raise DataError(f"{file}: holds no rows")
    return rows
