"""The control-token strings of those who read a folder's texts: ``control_tokens.json``, by reader.

Inside a prompt or a response such a string stays text wherever it is encoded here (``encoding.py``). Who reads them is
written down while the tokenizers are loaded, so that a report can count the texts that hold one without loading any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dalign.files import read_json, write_json

if TYPE_CHECKING:
    from dalign.judge import Judge

CONTROL_FILE = "control_tokens.json"
MODEL = "model"  # the policy's own tokenizer; every other reader is a judge, by its name
Behind = Literal["", "tokenizer", "markers"]


@dataclass(frozen=True)
class Reader:
    """Who reads the texts: the ``strings`` of its control tokens. ``endpoint`` is empty where its tokenizer is at work
    here. Of a model behind an endpoint, which is sent such text as it stands, it says where the strings are from: the
    ``tokenizer`` that was named for it, or the ``markers`` of common chat formats."""

    strings: tuple[str, ...]
    endpoint: Behind = ""


def record_control(folder: Path, reader: str, strings: Iterable[str], endpoint: Behind = "") -> None:
    """Writes down the control-token strings of ``reader``; the same ones again leave the file as it is."""
    known, own = control_of(folder), Reader(tuple(sorted(strings)), endpoint)
    if known.get(reader) != own:
        write_json(folder / CONTROL_FILE, {name: _plain(one) for name, one in {**known, reader: own}.items()})


def record_judge_control(folder: Path, judge: Judge) -> None:
    """Writes down the strings of a judge that has any; of a composite at work those of its members, by their names."""
    inner = getattr(judge, "inner", judge)
    for member in getattr(inner, "members", ()):
        record_judge_control(folder, member)
    if (strings := getattr(inner, "control_strings", None)) is not None:
        record_control(folder, judge.name, strings, getattr(inner, "control_endpoint", ""))


def control_of(folder: Path) -> dict[str, Reader]:
    """The readers by name; empty for a folder made before they were written down, or by an import."""
    path = folder / CONTROL_FILE
    return {name: _reader(told) for name, told in read_json(path).items()} if path.exists() else {}


def pattern(strings: Iterable[str]) -> re.Pattern[str] | None:
    """What finds any of ``strings``, the longest first; None where there are none."""
    ordered = sorted(set(strings), key=lambda one: (-len(one), one))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _plain(reader: Reader) -> Any:
    return asdict(reader) if reader.endpoint else reader.strings


def _reader(told: Any) -> Reader:
    return Reader(tuple(told["strings"]), told["endpoint"]) if isinstance(told, dict) else Reader(tuple(told))
