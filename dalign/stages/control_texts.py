"""Answers whose ends are changed: swapped between unsafe and safe ones, or the same for all; pure.

An end is the last sentence, or so many of the last words; of an answer that has no more, all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from dalign.attack.edits import SENTENCE_END

Closing = int | Literal["sentence"]
_WORD = re.compile(r"\S+")


def split_closing(answer: str, closing: Closing) -> tuple[str, str]:
    """What stands before the end, the blanks before it included, and the end."""
    text = answer.rstrip()
    if closing == "sentence":
        starts = [0, *(match.end() for match in SENTENCE_END.finditer(text))]
        return text[: starts[-1]], text[starts[-1] :]
    words = list(_WORD.finditer(text))
    at = words[-closing].start() if len(words) >= closing else 0
    return text[:at], text[at:]


def swapped_closings(answers: Sequence[str], unsafe: Sequence[bool | None], closing: Closing) -> list[str]:
    """The answers to one prompt, each with the end of one of the other label: the first unsafe one with that of the
    first safe one, and so on, round and round where there are fewer of them.

    Those without a label (None) stay as they are, and so do all of a prompt whose labels are one.
    """
    parts = [split_closing(answer, closing) for answer in answers]
    of = {label: [i for i, own in enumerate(unsafe) if own is label] for label in (True, False)}
    out = list(answers)
    for label, members in of.items():
        donors = of[not label]
        for rank, i in enumerate(members if donors else ()):
            out[i] = parts[i][0] + parts[donors[rank % len(donors)]][1]
    return out
