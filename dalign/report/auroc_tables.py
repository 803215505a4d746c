"""How well each score tells bad answers to attacks from good ones: AUROCs with their intervals, a table a policy."""

from __future__ import annotations

from dalign.report.formats import PlainTable
from dalign.report.rows import Row
from dalign.report.tables import SAFETY, Report, sections
from dalign.select import REFUSAL
from dalign.specs.control import CLOSINGS

LEAST = "_argmin"  # every score has a selector of this direction; its AUROC is the score's


def auroc_tables(report: Report) -> list[PlainTable]:
    """A table a policy with scores beside that of its phrases, by the first safety judge: a line a benchmark and score,
    layered ones at the fixed layer."""
    first = next((s for s in sections(report) if s.metric in SAFETY), None)
    if first is None:
        return []
    rows = [
        row
        for row in report.rows
        if first.covers(row) and row.subset == "all" and row.selector.endswith(LEAST)
        if not row.peeks or row.selector.startswith(CLOSINGS)
        if row.auroc_prompts is not None and row.layer_chosen_on != "scan"
    ]
    bad, good = first.outcomes
    said = f"AUROC of each score, {bad} against {good}; above 0.5 (chance) those {bad} score higher; {first.said_by}"
    head = ("benchmark", "score", "layer", "within prompts", "prompts with both", "over all prompts")
    return [
        PlainTable(
            f"aurocs_{policy}", f"{policy}: {said}", head, tuple(_line(r) for r in rows if r.policy == policy), 2
        )
        for policy in dict.fromkeys(row.policy for row in rows if row.selector != f"{REFUSAL}{LEAST}")
    ]


def _line(row: Row) -> tuple[str, ...]:
    return (
        row.benchmark,
        row.selector.removesuffix(LEAST),
        "–" if row.layer is None else str(row.layer),
        _shown(row.auroc_within_prompt, row.auroc_within_prompt_ci_low, row.auroc_within_prompt_ci_high),
        str(row.auroc_prompts),
        _shown(row.auroc_pooled, row.auroc_pooled_ci_low, row.auroc_pooled_ci_high),
    )


def _shown(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"
