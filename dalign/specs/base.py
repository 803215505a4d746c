"""The common ground of all specs: frozen, closed, and able to tell which of their fields change a result."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict


class Free:
    """Marks a field that may change between two runs of the same command without changing their results."""


FreeInt = Annotated[int, Free()]
FreeStr = Annotated[str, Free()]
FreeBool = Annotated[bool, Free()]


class Spec(BaseModel):
    """A frozen spec that refuses unknown keys. ``results()`` is what a stage compares before it continues."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    def results(self) -> dict[str, Any]:
        """The fields that change results, as JSON types; those marked ``Free`` are left out, at any depth."""
        out: dict[str, Any] = {}
        for name, info in type(self).model_fields.items():
            if any(isinstance(mark, Free) for mark in info.metadata):
                continue
            out[name] = _plain(getattr(self, name))
        return out


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.results()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
