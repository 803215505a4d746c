"""What a chat attacker's reply says: the JSON object in it, read tolerantly; nothing is guessed. Pure functions."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from dalign.attack.turns import Attempt

_TRAILING_COMMA = re.compile(r",\s*([}\]])")
_LONGEST = 20_000  # characters of a reply that are searched
_BRACES = 64  # places where an object may begin that are tried
_DECODER = json.JSONDecoder(strict=False)  # a raw line break in a string is what models write


def read_attempt(reply: str) -> Attempt | None:
    """The first object with a ``prompt`` that says something, whatever stands around it: a code fence, thoughts, a
    comma too many, Python's quotes. None without one, also where the reply was cut off inside it."""
    for found in _objects(reply[:_LONGEST]):
        fields = {str(key).strip().casefold(): value for key, value in found.items()}
        prompt, improvement = fields.get("prompt"), fields.get("improvement", "")
        if isinstance(prompt, str) and prompt.strip():
            return Attempt(prompt.strip(), improvement.strip() if isinstance(improvement, str) else "", reply)
    return None


def _objects(text: str) -> Iterator[dict[Any, Any]]:
    starts = [match.start() for match in re.finditer(r"\{", text)][:_BRACES]
    for start in starts:
        for read in (_json, _mended, _python):
            found = read(text[start:])
            if isinstance(found, dict):
                yield found
                break


def _json(text: str) -> Any:
    try:
        return _DECODER.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _mended(text: str) -> Any:
    return _json(_TRAILING_COMMA.sub(r"\1", text))


def _python(text: str) -> Any:
    """A dict as Python writes it; literals alone are read, nothing is run."""
    end = text.rfind("}")
    try:
        return ast.literal_eval(text[: end + 1])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
