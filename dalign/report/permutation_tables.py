"""Permutation p-values beside those of the report: the headline at its fixed layer, and the best layers jointly."""

from __future__ import annotations

from collections.abc import Iterator

from dalign.report.at_k import first_sections
from dalign.report.candidates import BEST_LAYER
from dalign.report.formats import PlainTable
from dalign.report.tables import METRIC_WORDS, Report, Section, is_headline, percent, with_interval

CAVEAT = (
    "Here the verdicts of a prompt's samples change places at random, within the prompt and each prompt by itself, and "
    "the choices stay. A small p-value says that the score tells these samples of one prompt apart better (or worse) "
    "than chance; not that it would on other prompts or tasks, which is what clustered intervals and sign flips ask; "
    "nor why, for the score may follow the length. 'This layer' is exact and two-sided, as if the layer had been fixed "
    "beforehand; 'best of all layers' is one-sided: all layers see the same permutation, and the best of them counts "
    "each time, so it pays for the search. These p-values are not adjusted for the number of lines."
)
HEAD = ("benchmark", "selector", "layer", "rate", "by chance", "sign flips", "this layer", "best of all layers")


def permutation_tables(report: Report) -> list[PlainTable]:
    """A table a policy with scores and metric, by the first judge."""
    return [
        PlainTable(
            f"permutation_{policy}_{section.metric}",
            f"{policy}: {METRIC_WORDS[section.metric]}; {section.said_by}",
            HEAD,
            rows,
            2,
        )
        for section in first_sections(report)
        for policy in dict.fromkeys(line.single.policy for line in section.lines if line.chosen)
        if (rows := tuple(_lines(report, section, policy)))
    ]


def _lines(report: Report, section: Section, policy: str) -> Iterator[tuple[str, ...]]:
    own = [
        row
        for row in report.rows
        if (row.policy, row.subset, row.reading) == (policy, "all", section.reading) and section.covers(row)
    ]
    at = {(row.benchmark, row.selector, row.layer): row for row in own if not row.peeks}
    for row in own:
        best = row.selector.startswith(BEST_LAYER)
        if not best and not is_headline(row, report.headline):
            continue
        fixed = at[row.benchmark, row.selector.removeprefix(BEST_LAYER), row.layer]
        chance = at.get((row.benchmark, "random", None))
        yield (
            row.benchmark,
            row.selector,
            "–" if row.layer is None else str(row.layer),
            with_interval(row.value, row.ci_low, row.ci_high),
            percent(chance.value if chance else None),
            *(_p(value) for value in (fixed.p_value, fixed.p_permutation, row.p_permutation if best else None)),
        )


def _p(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else "< 0.001"
