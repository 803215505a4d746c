"""What one who knows the selector does to an answer: a refusal put behind it, or refusals cut from it; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from dalign.judge.refusal import refuses

Variant = Literal["drawn", "appended", "cut", "both", "style"]
VARIANTS: tuple[Variant, ...] = ("drawn", "appended", "cut", "both", "style")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def edited(answer: str, variant: Variant, *, unsafe: bool, sentence: str, phrases: Sequence[str]) -> str:
    """The answer as ``variant`` leaves it: ``appended`` puts ``sentence`` behind unsafe ones, ``cut`` takes refusals
    out of safe ones, ``both`` does either; the others change nothing."""
    if unsafe:
        return f"{answer} {sentence}" if variant in ("appended", "both") else answer
    return without_refusals(answer, phrases) if variant in ("cut", "both") else answer


def styled(prompt: str, style: str) -> str:
    """The prompt of the variant ``style``: it asks for answers that steer the selector."""
    return f"{prompt} {style}"


def without_refusals(answer: str, phrases: Sequence[str]) -> str:
    """The answer without the sentences that refuse: those with one of ``phrases``, without any given those that the
    judge of phrases takes for refusals. Where nothing else is said only the phrase goes, and nothing if that is all."""
    kept = [text for text in SENTENCE_END.split(answer) if not _refusing(text, phrases)]
    if kept:
        return " ".join(kept).strip()
    rest = answer
    for phrase in phrases:
        rest = rest.replace(phrase, "")
    rest = " ".join(rest.split())
    return rest if any(c.isalnum() for c in rest) else answer


def _refusing(sentence: str, phrases: Sequence[str]) -> bool:
    return any(phrase in sentence for phrase in phrases) if phrases else refuses(sentence)
