"""Reads rows from CSV, TSV, JSON, JSONL and Parquet files, each with the file and line it came from.

Nothing is skipped or guessed: a row that cannot be read is a ``DataError`` naming file and line. Cells of CSV and TSV
stay text (``None`` and ``NA`` too); a byte-order mark, CRLF, line breaks inside cells and an empty header are read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalign.errors import DataError, did_you_mean

_LONGEST_CELL = 1 << 28


@dataclass(frozen=True)
class Row:
    """One data row. ``index`` counts data rows from 0; ``where`` names file and line for messages."""

    where: str
    index: int
    cells: dict[str, Any]

    def cell(self, column: str) -> Any:
        """The value of a column. Raises ``DataError`` with the nearest name if there is none."""
        if column not in self.cells:
            raise DataError(f"{self.where}: no column {column!r}; {did_you_mean(column, list(self.cells))}")
        return self.cells[column]

    def text(self, column: str, *, empty: bool = False) -> str:
        """A cell that must hold text. Raises ``DataError`` for another type, and for blank text unless ``empty``."""
        value = self.cell(column)
        if not isinstance(value, str):
            raise DataError(f"{self.where}: column {column!r} holds {type(value).__name__}, it must hold text")
        self._whole(column, value)
        if not empty and not value.strip():
            raise DataError(f"{self.where}: column {column!r} is empty; complete the row or take it out")
        return value

    def label(self, column: str) -> str:
        """A cell as a label: text as it stands, a number or a truth value as it prints, null and NaN as empty."""
        value = self.cell(column)
        return "" if value is None or value != value else self._whole(column, str(value))

    def _whole(self, column: str, value: str) -> str:
        """``value``, which must be encodable: JSON can spell half a character (a lone surrogate)."""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{self.where}: column {column!r} holds half a character at {error.start}") from error
        return value


def read_rows(path: Path, kind: str) -> list[Row]:
    """The rows of ``path`` in format ``kind``, in file order. Raises ``DataError``, also for a file without rows."""
    reader = _READERS.get(kind)
    if reader is None:
        raise DataError(f"{path}: no reader for format {kind!r}; {did_you_mean(kind, list(_READERS))}")
    rows = list(reader(path))
    if not rows:
        raise DataError(f"{path}: holds no rows; an empty file is never taken for an empty data set")
    return rows


def source_ids(rows: Sequence[Row], column: str | None) -> list[str]:
    """Each row's id in its source: the cell of ``column``, or its index. Raises ``DataError`` on a repeated one.

    Columns joined by ``+`` make an id of their cells, joined by ``/``.
    """
    seen: dict[str, str] = {}
    for row in rows:
        name = str(row.index) if column is None else _joined(row, column)
        if not name:
            raise DataError(f"{row.where}: column {column!r} is empty, it must hold the row's id")
        if name in seen:
            raise DataError(f"{row.where}: row id {name!r} stands at {seen[name]} already; ids must be unique")
        seen[name] = row.where
    return list(seen)


def _joined(row: Row, column: str) -> str:
    parts = [column] if column in row.cells else column.split("+")
    cells = [row.label(part).strip() for part in parts]
    return "/".join(cells) if all(cells) else ""


def format_of(path: Path) -> str:
    """The format that a file name's ending stands for. Raises ``DataError`` on an unknown ending."""
    kind = path.suffix.removeprefix(".").lower()
    if kind not in _READERS:
        known = ", ".join(f".{k}" for k in _READERS)
        raise DataError(f"{path}: the ending {path.suffix or '(none)'!r} names no known format; known: {known}")
    return kind


def read_text(path: Path) -> str:
    """The file's text without a byte-order mark. Raises ``DataError`` naming the line of a byte that is not UTF-8."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from error


def records_of(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each record of a delimited file; CRLF becomes LF, also inside cells.

    Raises ``DataError`` for a quote that is never closed, as a torn file leaves one.
    """
    csv.field_size_limit(_LONGEST_CELL)
    text = read_text(path).replace("\r\n", "\n")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{line}: unreadable row: {error}; mend the quotes or restore the file") from error
        if cells:
            yield line, cells


def _delimited(delimiter: str) -> Callable[[Path], Iterator[Row]]:
    def read(path: Path) -> Iterator[Row]:
        header: list[str] | None = None
        index = 0
        for line, cells in records_of(path, delimiter):
            if header is None:
                header = cells
                if repeated := sorted({name for name in header if header.count(name) > 1}):
                    raise DataError(f"{path}:{line}: the header names {repeated} more than once")
                continue
            if len(cells) != len(header):
                raise DataError(f"{path}:{line}: {len(cells)} cells where the header has {len(header)}")
            yield Row(f"{path}:{line}", index, dict(zip(header, cells, strict=True)))
            index += 1

    return read


def _jsonl(path: Path) -> Iterator[Row]:
    text = read_text(path)
    lines = text.split("\n")
    index = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: {_json_fault(error, torn=number == len(lines))}") from error
        yield Row(f"{path}:{number}", index, _object(value, f"{path}:{number}"))
        index += 1


def _json_fault(error: Exception, *, torn: bool) -> str:
    if torn:
        return (
            "the last line is torn (an interrupted write?): complete it or take it out; the lines before it are whole"
        )
    return f"not valid JSON: {error}"


def _json(path: Path) -> Iterator[Row]:
    """The objects of one JSON list, each with the line where it starts."""
    text = read_text(path)
    decoder = json.JSONDecoder()
    position = _skip(text, 0, " \t\r\n")
    if position == len(text):
        return
    if text[position] != "[":
        raise DataError(f"{path}:1: must be a JSON list of objects, starts with {text[position]!r}")
    position, index, line, counted = _skip(text, position + 1, " \t\r\n"), 0, 1, 0
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        where = f"{path}:{line}"
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where}: item {index + 1} is not valid JSON, or torn: {error}; restore the file"
            ) from error
        yield Row(where, index, _object(value, where))
        index += 1
        position = _skip(text, position, " \t\r\n")
        if text[position : position + 1] not in (",", "]"):
            raise DataError(
                f"{where}: after item {index} the list goes on without a comma or its end; restore the file"
            )
        if text[position] == ",":
            position = _skip(text, position + 1, " \t\r\n")
    if rest := text[position + 1 :].strip():
        raise DataError(f"{path}: {len(rest)} characters stand after the end of the list")


def _skip(text: str, position: int, blanks: str) -> int:
    while position < len(text) and text[position] in blanks:
        position += 1
    return position


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: holds a JSON {type(value).__name__}, each row must be an object")
    return value


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from error
    for index, cells in enumerate(rows):
        yield Row(f"{path}: row {index + 1}", index, cells)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "csv": _delimited(","),
    "tsv": _delimited("\t"),
    "json": _json,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
