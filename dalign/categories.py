"""The category labels of STAR-41K and STAR-1, and how a data set's cell becomes a tuple of them.

An unknown label is an error that lists the known ones: a policy is never given to a prompt by default.
"""

from __future__ import annotations

import ast
from typing import Any

from dalign.errors import DataError, did_you_mean

BENIGN = "benign"
CATEGORIES = (
    "Harassment / Hate / Discrimination",
    "Sexual / Adult",
    "Violence / Physical Harm",
    "Self-Harm",
    "Illicit / Criminal Behavior",
    "Misinformation / Disinformation",
    "Privacy / Personal Data",
    "Intellectual Property",
)
KNOWN = (*CATEGORIES, BENIGN)


def known_category(label: str, where: str) -> str:
    """The label in its official spelling, whatever its case. Raises ``DataError`` naming ``where`` if unknown."""
    for known in KNOWN:
        if " ".join(label.split()).casefold() == known.casefold():
            return known
    hint = did_you_mean(label, KNOWN)
    listed = "" if hint.startswith("known") else "; known: " + ", ".join(KNOWN)
    raise DataError(f"{where}: unknown category {label!r}; {hint}{listed}")


def categories_of(cell: Any, where: str) -> tuple[str, ...]:
    """The categories in a cell: a list, a list printed as Python text (``"['Self-Harm']"``), or one label.

    The text of a list is parsed as a literal, never evaluated. Raises ``DataError`` for an unknown label, an empty
    cell and anything else than labels.
    """
    labels = cell
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            labels = ast.literal_eval(cell.strip())
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(f"{where}: the category cell starts a list but is none: {cell[:60]!r}") from error
    elif isinstance(cell, str):
        labels = [cell]
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise DataError(f"{where}: categories must be a list of labels, got {type(cell).__name__}")
    if not [label for label in labels if label.strip()]:
        raise DataError(f"{where}: no category; known: {', '.join(KNOWN)}")
    return tuple(dict.fromkeys(known_category(label, where) for label in labels))
