"""Which rows belong together: rows tied by a key, and rows whose texts are equal but for case, blanks and marks.

A group stays on one side of a split and is one unit of resampling, so a tie too many costs power, one too few leaks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from dalign.prompts.readers import Row

_MARKS = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Letters and digits alone, case-folded, one blank between words; a text without any is returned as it is."""
    return _MARKS.sub(" ", text.casefold()).strip() or text


def group_names(ids: Sequence[str], keys: Sequence[Sequence[str]]) -> list[str]:
    """The group of each row, named after its first member.

    ``keys`` holds one list of values a key, aligned with ``ids``. Two rows with an equal, non-empty value of one key
    are tied, and ties carry over: groups are the connected components.
    """
    parent = list(range(len(ids)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for values in keys:
        first: dict[str, int] = {}
        for i, value in zip(range(len(ids)), values, strict=True):
            if value:
                a, b = root(first.setdefault(value, i)), root(i)
                parent[max(a, b)] = min(a, b)
    return [ids[root(i)] for i in range(len(ids))]


def key_values(rows: Sequence[Row], key: str, alias: Mapping[str, str]) -> list[str]:
    """A group key's value for each row: the cells of its columns joined by ``+``, empty where one of them is.

    ``#column`` stands for the row's position among the rows with its value of ``column``. ``alias`` renames values
    before they are compared; positions are counted before that.
    """
    columns = key.split("+")
    cells = {column: [row.label(column.removeprefix("#")).strip() for row in rows] for column in columns}
    for column in columns:
        if column.startswith("#"):
            seen: Counter[str] = Counter()
            cells[column] = [_next(seen, cell) for cell in cells[column]]
    parts = zip(*(cells[column] for column in columns), strict=True)
    return ["\x1f".join(alias.get(p, p) for p in row) if all(row) else "" for row in parts]


def _next(seen: Counter[str], value: str) -> str:
    seen[value] += 1
    return str(seen[value])
