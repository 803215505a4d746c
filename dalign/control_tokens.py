"""The control-token strings of those who read a cell's texts: ``control_tokens.json``, by reader.

Inside a prompt or a response such a string stays text (``encoding.py``). Who reads them is written down while the
tokenizers are loaded, so that a report can count the texts that hold one without loading any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dalign.files import read_json, write_json

CONTROL_FILE = "control_tokens.json"
MODEL = "model"  # the policy's own tokenizer; every other reader is a judge, by its name


def record_control(folder: Path, reader: str, strings: Iterable[str]) -> None:
    """Writes down the control-token strings of ``reader``; the same ones again leave the file as it is."""
    known, own = control_of(folder), tuple(sorted(strings))
    if known.get(reader) != own:
        write_json(folder / CONTROL_FILE, {**known, reader: own})


def control_of(folder: Path) -> dict[str, tuple[str, ...]]:
    """The strings by reader; empty for a folder made before they were written down, or by an import."""
    path = folder / CONTROL_FILE
    return {reader: tuple(strings) for reader, strings in read_json(path).items()} if path.exists() else {}


def pattern(strings: Iterable[str]) -> re.Pattern[str] | None:
    """What finds any of ``strings``, the longest first; None where there are none."""
    ordered = sorted(set(strings), key=lambda one: (-len(one), one))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None
