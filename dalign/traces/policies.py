"""The safety policies that stand in a real teacher's context: one Markdown file a category, and one for benign prompts.

An unknown category is an error that lists the known ones; no prompt gets another category's policy instead.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from dalign.categories import KNOWN, known_category

_NAMES = (
    "harassment",
    "sexual",
    "violence",
    "self_harm",
    "illicit",
    "misinformation",
    "privacy",
    "intellectual_property",
    "benign",
)
_FILES = dict(zip(KNOWN, _NAMES, strict=True))


def policy(category: str) -> str:
    """The policy of a category, as Markdown. Raises ``DataError`` for an unknown one."""
    return _text(f"policies/{_FILES[known_category(category, 'policy')]}.md")


def instruction() -> str:
    """What the teacher is told to do with the policies."""
    return _text("instruction.md")


@cache
def _text(name: str) -> str:
    return (files("dalign.traces") / name).read_text(encoding="utf-8").strip()
