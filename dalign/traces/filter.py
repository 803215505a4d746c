"""Which traces a student learns from: finished, whole, not too long, and safe by the judge; each other with a reason.

Nothing is thrown away: a dropped trace stays in the file with its reason, and the summary counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dalign.errors import ConfigError
from dalign.prompts.training import UNCLOSED
from dalign.records import Prompt, Trace, Verdict
from dalign.specs.stage import FilterSpec

if TYPE_CHECKING:
    from dalign.judge import Judge, JudgeItem

TRUNCATED, OVERLONG = "truncated", "prompt fills the context"
EMPTY_ANSWER, SHORT_REASONING, TOO_LONG = "empty answer", "reasoning too short", "too long"
UNSAFE = "unsafe"

__all__ = ["UNCLOSED", "filter_traces", "summarise"]


def filter_traces(traces: Sequence[Trace], spec: FilterSpec, judge: Judge | None) -> list[Trace]:
    """All traces in order, ``dropped`` filled for those that fall out, ``p_unsafe`` where the judge gave one.

    Form and length come first; only what passes them is judged, question and answer together. Without a judge they
    decide alone. Raises ``ConfigError`` for a judge that does not say safe or unsafe.
    """
    formed = [replace(trace, dropped=trace.dropped or fault(trace, spec)) for trace in traces]
    whole = [trace for trace in formed if not trace.dropped]
    if judge is None or not whole:
        return formed
    verdicts = iter(judge.judge([_item(trace) for trace in whole], "answer"))
    return [trace if trace.dropped else _judged(trace, next(verdicts), spec) for trace in formed]


def fault(trace: Trace, spec: FilterSpec) -> str:
    """What is wrong with a trace's form or length, or nothing. Lengths are in characters."""
    if trace.finish_reason != "stop":
        return OVERLONG if trace.finish_reason == "overlong" else TRUNCATED
    if not trace.answer.strip():
        return EMPTY_ANSWER
    if len(trace.reasoning.strip()) < spec.min_reasoning_chars:
        return SHORT_REASONING
    return TOO_LONG if len(trace.reasoning) + len(trace.answer) > spec.max_chars else ""


def summarise(traces: Sequence[Trace]) -> dict[str, Any]:
    """Counts of kept and dropped traces: in all, by reason, and by category (a trace counts in each of its own)."""
    reasons = Counter(trace.dropped for trace in traces if trace.dropped)
    categories: dict[str, Counter[str]] = {}
    for trace in traces:
        for category in trace.categories or ("(none)",):
            categories.setdefault(category, Counter())[trace.dropped or "kept"] += 1
    return {
        "rows": len(traces),
        "kept": len(traces) - reasons.total(),
        "dropped": reasons.total(),
        "reasons": dict(sorted(reasons.items())),
        "categories": {name: dict(sorted(counts.items())) for name, counts in sorted(categories.items())},
    }


def _item(trace: Trace) -> JudgeItem:
    from dalign.judge import JudgeItem

    prompt = Prompt(trace.teacher, trace.row, trace.question, "harmful", trace.row, categories=trace.categories)
    return JudgeItem(trace.id, prompt, trace.reasoning, trace.answer, trace.finish_reason, closed=True)


def _judged(trace: Trace, verdict: Verdict, spec: FilterSpec) -> Trace:
    if verdict.sample_id != trace.id:
        raise ValueError(f"judge {verdict.judge} answered for {verdict.sample_id} where {trace.id} was asked")
    if verdict.label == "unscored":
        return replace(trace, dropped=f"unscored: {verdict.reason}")
    if verdict.label not in ("safe", "unsafe"):
        raise ConfigError(
            f"judges.harm={verdict.judge}: says {verdict.label}, a filter needs a judge of harm (safe or unsafe); "
            "name another, or filter by form alone with stage.filter.judge=false"
        )
    p = verdict.p_unsafe
    unsafe = verdict.label == "unsafe" if p is None else p > spec.max_p_unsafe
    return replace(trace, p_unsafe=p, dropped=UNSAFE if unsafe else "")
