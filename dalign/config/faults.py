"""What pydantic found, one fault a key, in sentences that name the key, the value and what is expected instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dalign.config.problems import Problem, nearest, shown
from dalign.config.schema import fields_beside
from dalign.config.targets import choosing
from dalign.errors import did_you_mean
from dalign.specs.base import Spec

_KINDS = {
    "int": "a whole number is expected",
    "float": "a number is expected",
    "bool": "true or false is expected",
    "string": "text is expected",
    "tuple": "a list is expected, as in {key}=[a,b]",
    "dict": "names with a node each are expected here, not a value",
    "model": "a node stands here, not a value",
}


@dataclass(frozen=True)
class Fault:
    """All that is wrong at one place of the data of ``root``; ``details`` has several where a union was tried."""

    root: type[Spec]
    path: tuple[str | int, ...]
    details: tuple[ErrorDetails, ...]

    @property
    def key(self) -> str:
        return ".".join(str(part) for part in self.path)

    @property
    def annotations(self) -> tuple[Any, ...]:
        """What may stand here, by the classes on the way."""
        return tuple(field.annotation for field in self._fields())

    @property
    def required(self) -> bool:
        return any(field.is_required() for field in self._fields())

    def problem(self) -> Problem:
        """The fault in a sentence."""
        kind, value = self.details[0]["type"], self.details[0]["input"]
        if kind == "missing":
            return Problem(self.key, self._not_set())
        if kind == "extra_forbidden":
            word = str(self.path[-1])
            hint = did_you_mean(word, sorted(fields_beside(self.path, self.root)))
            return Problem(self.key, f"{self.key}={shown(value)}: unknown key {word!r}; {hint}")
        # A list whose only entry is wrong is also too short to pydantic.
        told = [detail for detail in self.details if detail["type"] != "too_short"] or self.details
        wanted = dict.fromkeys(self._wanted(detail) for detail in told)
        return Problem(self.key, f"{self.key}={shown(value)}: {', or '.join(wanted)}")

    def _fields(self) -> list[Any]:
        last = str(self.path[-1])
        return [field for name, field in fields_beside(self.path, self.root).items() if name == last]

    def _not_set(self) -> str:
        way = choosing(self.key) or choosing(f"{self.key}.NAME") or f"{self.key}=VALUE"
        return f"{self.key} is not set: give {way}"

    def _wanted(self, detail: ErrorDetails) -> str:
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "literal_error":
            return nearest(str(detail["input"]), re.findall(r"'([^']*)'", context["expected"]))
        if kind == "too_short":
            return f"at least {context['min_length']} must be named"
        if kind == "value_error":
            return str(context["error"])
        if kind == "string_pattern_mismatch":
            return "letters, digits and ._=,+- are allowed, each part between slashes starting with a letter or digit"
        if kind in ("model_type", "model_attributes_type", "dict_type"):
            way = choosing(self.key)
            return _KINDS[kind.partition("_")[0]] + (f"; choose an entry by {way}" if way else "")
        if kind.endswith(("_type", "_parsing", "_from_float")) and (told := _KINDS.get(kind.partition("_")[0])):
            return told.format(key=self.key)
        return detail["msg"].replace("Input should be", "must be")


def faults_by_key(error: ValidationError, plain: dict[str, Any], root: type[Spec]) -> list[Fault]:
    """The faults of ``plain`` as a ``root`` in the order pydantic found them, those of one place together."""
    grouped: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors():
        grouped.setdefault(_path(detail["loc"], plain, detail["type"] == "missing"), []).append(detail)
    return [Fault(root, path, tuple(details)) for path, details in grouped.items()]


def _path(loc: Sequence[str | int], plain: dict[str, Any], missing: bool) -> tuple[str | int, ...]:
    """Pydantic's location without the tags of unions, which are no keys of the data."""
    path: list[str | int] = []
    node: Any = plain
    for i, part in enumerate(loc):
        if isinstance(node, dict) and (part in node or (missing and i == len(loc) - 1)):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            continue
        path.append(part)
    return tuple(path)
