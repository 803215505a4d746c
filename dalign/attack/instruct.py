"""The words a chat attacker is instructed with: this project's Markdown files, or a file of the user's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from dalign.errors import DataError
from dalign.specs.attack import ChatAttackerSpec

PLACES = ("{strategy}", "{iterations}", "{goal}")  # the goal comes last: what it holds is text, and no place


def instruction(spec: ChatAttackerSpec) -> str:
    """The instruction of ``spec``. Raises ``DataError`` for one that cannot be read or lacks a place."""
    if spec.instruction is None:
        return words("attacker")
    path = Path(spec.instruction).expanduser()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"attack.attacker.instruction={path}: cannot be read ({error})") from error
    if lacking := [place for place in PLACES if place not in text]:
        raise DataError(f"attack.attacker.instruction={path}: lacks {' and '.join(lacking)}; write it where it belongs")
    return text


def words(name: str) -> str:
    """The text of ``instructions/<name>.md``."""
    return files("dalign.attack").joinpath("instructions", f"{name}.md").read_text(encoding="utf-8").strip()
