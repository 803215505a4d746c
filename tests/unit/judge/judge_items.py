"""Hand-made items to judge."""

from __future__ import annotations

from typing import Any

from dalign.judge import JudgeItem
from dalign.records import Prompt


def item(answer: str = "yes", *, text: str = "may i knit ?", **fields: Any) -> JudgeItem:
    """A finished response to a harmful prompt; ``fields`` change the item, or its prompt's kind and reference."""
    kind, reference = fields.pop("kind", "harmful"), fields.pop("reference", None)
    prompt = Prompt("made_up", "0", text, kind, "0", reference=reference)
    given = {"sample_id": f"id {answer}", "reasoning": "so", "finish_reason": "stop", "closed": True, **fields}
    return JudgeItem(prompt=prompt, answer=answer, **given)
