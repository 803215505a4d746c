"""Walks the spec classes by dotted key: which classes may stand at a place of the configuration, and which fields.

The specs are the only schema; nothing here names a field, so that adding one to a spec is all there is to do.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from dalign.specs.base import Spec
from dalign.specs.run import RunSpec


def members(annotation: Any) -> Iterator[Any]:
    """The plain types of an annotation, with unions and ``Annotated`` taken apart."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from members(part)
    else:
        yield annotation


def specs_in(annotation: Any) -> tuple[type[Spec], ...]:
    """The spec classes that may stand at a field of this annotation."""
    return tuple(m for m in members(annotation) if isinstance(m, type) and issubclass(m, Spec))


def entries_in(annotation: Any) -> Any | None:
    """The annotation of the values where the field is a mapping by name (``judges``, ``benchmark``), else None."""
    for member in members(annotation):
        if get_origin(member) is dict:
            return get_args(member)[1]
    return None


def fields_beside(path: Sequence[str | int], root: type[Spec]) -> dict[str, FieldInfo]:
    """The fields that may stand at the last part of ``path`` in ``root`` or beside it, of every class of a union."""
    found: list[Any] = [root]
    for part in path[:-1]:
        found = [step for annotation in found for step in _steps(annotation, part)]
    return {n: f for annotation in found for cls in specs_in(annotation) for n, f in cls.model_fields.items()}


def annotations_at(key: str) -> tuple[Any, ...]:
    """What may stand at a dotted key of a run's configuration: one annotation for each class of a union on the way."""
    found: list[Any] = [RunSpec]
    for part in key.split("."):
        found = [step for annotation in found for step in _steps(annotation, part)]
    return tuple(found)


def _steps(annotation: Any, part: str | int) -> Iterator[Any]:
    for cls in specs_in(annotation):
        if part in cls.model_fields:
            yield cls.model_fields[str(part)].annotation
    entry = entries_in(annotation)
    if entry is not None:
        yield entry


def wants_text(key: str) -> bool:
    """Whether only a string (or null) may stand at ``key``, so that ``run=2024`` means the text ``2024``."""
    leaves = [m for annotation in annotations_at(key) for m in members(annotation) if m is not types.NoneType]
    return bool(leaves) and all(_is_text(leaf) for leaf in leaves)


def _is_text(leaf: Any) -> bool:
    if get_origin(leaf) is Literal:
        return all(isinstance(value, str) for value in get_args(leaf))
    return leaf is str


def target_name(cls: type[Spec]) -> str:
    """What a YAML writes behind ``_target_`` for a spec class."""
    return f"{cls.__module__}.{cls.__qualname__}"
