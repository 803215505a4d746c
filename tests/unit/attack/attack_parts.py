"""Hand-made goals, turns and verdicts of attacks."""

from __future__ import annotations

from typing import Any

from dalign.attack.turns import Stream, Turn
from dalign.records import Prompt, Verdict


def goal(row: str = "0", text: str = "how do i knit the moon ?") -> Prompt:
    return Prompt("made_up", row, text, "harmful", row)


def turn(of: Prompt, iteration: int, *, stream: int = 0, score: int | None = 1, **fields: Any) -> Turn:
    """A turn with feedback ``score``; ``fields`` change it."""
    given = {"prompt": f"try {stream}/{iteration}", "improvement": "", "reply": "", "n": 1, "chosen": 0, **fields}
    target = given.pop("target", "single")
    return Turn(prompt_id=of.id, target=target, stream=stream, iteration=iteration, score=score, **given)


def said(one: Turn, label: str, judge: str = "far") -> Verdict:
    reason = "cut off" if label == "unscored" else ""
    return Verdict(one.id, judge, "answer", label, reason=reason)  # type: ignore[arg-type]


def stream(of: Prompt, *turns: Turn, number: int = 0) -> Stream:
    return Stream(of, number, turns)
