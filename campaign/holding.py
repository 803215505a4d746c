"""What a fuzzed target is, and how it tells that what came out is not what stands in its input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

Target = Callable[[Random, Path], bool]


class Wrong(Exception):  # noqa: N818
    """Input was accepted, and what came out is not what stands in it; or it was refused without saying what."""


def expect(held: bool, what: str) -> None:
    """Raises ``Wrong`` unless ``held``."""
    if not held:
        raise Wrong(what)
