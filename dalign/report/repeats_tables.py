"""The tables of runs that were pooled: what each selector gives over all of them, and each run by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dalign.report.formats import PlainTable
from dalign.report.gathered_tables import unique
from dalign.report.repeats import ON_LABELS, RepeatedRow, Repeats
from dalign.report.tables import Section, csv_text, is_headline, with_interval

ENDS = ("", "_ci_low", "_ci_high")
CAVEAT = (
    "Every run is one observation, of equal weight: a value is the mean over runs, its 95 % interval Student's t over "
    "them, or what the runs' own intervals give for their mean where that is wider; p-values are of paired t-tests "
    "over runs. It all tells of another run with another seed. What is primary was so in every run's configuration."
)


def repeats_csv(repeats: Repeats) -> str:
    """Every pooled row, the columns of results.csv and behind them how many runs have it, in how many it is better and
    worse than one answer, and each run's own value."""
    every = [*repeats.rows, *repeats.at_k]
    more: dict[str, list[Any]] = {key: [getattr(one, key) for one in every] for key in ("runs", "better", "worse")}
    more |= {f"value_{name}": [one.values[i] for one in every] for i, name in enumerate(repeats.names)}
    return csv_text([one.row for one in every], more)


def repeats_tables(repeats: Repeats, sections: Sequence[Section]) -> list[PlainTable]:
    """The tables of ``repeats``: the headline, each run by itself; then of each of ``sections`` every selector at its
    layer, all layers, best of k, lengths, and AUROCs. Changes are against one answer."""
    found = [_headline(repeats, sections), _seeds(repeats, sections)]
    for i, section in enumerate(sections, 1):
        rows = [one for one in repeats.rows if section.covers(one.row) and one.row.subset == "all"]
        rows = [one for one in rows if one.row.reading == section.reading]
        at_k = [one for one in repeats.at_k if section.covers(one.row) and one.row.reading in (None, section.reading)]
        found += [
            _selectors(rows, f"selectors_{i}", f"Every selector, change in points; {section.title}", _change),
            _selectors(rows, f"rates_{i}", f"Every selector, per cent; {section.title}", _rate),
            _layers(rows, f"layers_{i}", f"By layer, change in points; 0 is the placebo; {section.title}"),
            _at_k([*at_k, *rows], f"at_k_{i}", f"Best of k, per cent; {section.title}"),
            _lengths(rows, f"lengths_{i}", f"Whether choices follow the length; {section.title}"),
            _aurocs(rows, f"aurocs_{i}", f"AUROC within prompts, in per cent; {section.title}"),
        ]
    return [table for table in found if table.rows]


def _headline(repeats: Repeats, sections: Sequence[Section]) -> PlainTable:
    rows = []
    for section, row, single in _pairs(repeats, sections):
        r = row.row
        change = with_interval(r.difference, r.difference_ci_low, r.difference_ci_high, signed=True)
        numbers = (_rate(single), _rate(row), change, f"{row.better} / {row.worse} of {row.runs}")
        power = "–" if r.smallest_detectable is None else f"{100 * r.smallest_detectable:.1f}"
        p = "–" if r.p_adjusted is None else f"{r.p_adjusted:.3f}"
        rows.append((r.policy, r.benchmark, _said(section), *numbers, p, power, r.claim or "none", str(r.n_prompts)))
    numbers_of = ("one answer", "chosen", "change, points", "runs better / worse", "p, adjusted", "smallest detectable")
    head = ("policy", "benchmark", "counted", *numbers_of, "claim", "n")
    title = f"Over {len(repeats.names)} runs: {repeats.headline.words}, per cent with 95 % intervals over runs"
    return PlainTable("pooled", title, head, tuple(rows), 3)


def _seeds(repeats: Repeats, sections: Sequence[Section]) -> PlainTable:
    rows = []
    for section, row, single in _pairs(repeats, sections):
        of = (row.row.policy, row.row.benchmark, _said(section))
        rows.append((*of, "one answer", *map(_percent, single.values)))
        rows.append((*of, "chosen", *map(_percent, row.values)))
    head = ("policy", "benchmark", "counted", "", *repeats.names)
    return PlainTable("seeds", "Each run by itself, per cent", head, tuple(rows), 4)


def _pairs(repeats: Repeats, sections: Sequence[Section]) -> list[tuple[Section, RepeatedRow, RepeatedRow]]:
    """The headline's row and that of one answer, by section, policy and benchmark."""
    out = []
    for section in sections:
        rows = [one for one in repeats.rows if section.covers(one.row) and one.row.subset == "all"]
        rows = [one for one in rows if one.row.reading == section.reading]
        single = {(one.row.policy, one.row.benchmark): one for one in rows if one.row.selector == "mean"}
        chosen = [one for one in rows if is_headline(one.row, repeats.headline)]
        out += [(section, one, single[one.row.policy, one.row.benchmark]) for one in chosen]
    return out


def _selectors(rows: Sequence[RepeatedRow], name: str, title: str, cell: Callable[[RepeatedRow], str]) -> PlainTable:
    """Every selector that has no layer, or one that was settled on."""
    shown = [one for one in rows if _settled(one)]
    benchmarks = unique(one.row.benchmark for one in shown)
    at = {(one.row.policy, _named(one), one.row.benchmark): one for one in shown}
    lines = []
    for policy, selector in unique((one.row.policy, _named(one)) for one in shown):
        cells = [cell(at[policy, selector, b]) if (policy, selector, b) in at else "–" for b in benchmarks]
        lines.append((policy, selector, *cells))
    return PlainTable(name, title, ("policy", "selector", *benchmarks), tuple(lines), 2)


def _layers(rows: Sequence[RepeatedRow], name: str, title: str) -> PlainTable:
    layered = [one for one in rows if one.row.layer is not None and one.row.layer_chosen_on not in ON_LABELS]
    last = max((one.row.layer or 0 for one in layered), default=0)
    at = {(one.row.policy, one.row.selector, one.row.benchmark, one.row.layer): one for one in layered}
    lines = []
    for place in unique((one.row.policy, one.row.selector, one.row.benchmark) for one in layered):
        found = [at.get((*place, layer)) for layer in range(last + 1)]
        lines.append((*place, *("–" if one is None else _change(one) for one in found)))
    return PlainTable(name, title, ("policy", "selector", "benchmark", *map(str, range(last + 1))), tuple(lines), 3)


def _at_k(rows: Sequence[RepeatedRow], name: str, title: str) -> PlainTable:
    """Those selectors that have a row below N, at every k."""
    below = {_of(one) for one in rows if 1 < one.row.k < one.row.n_samples}
    shown = [one for one in rows if _of(one) in below and _settled(one)]
    ks = sorted({one.row.k for one in shown})
    at = {(*_of(one), one.row.k): one for one in shown}
    lines = []
    for place in unique(_of(one) for one in shown):
        cells = [at.get((*place, k)) for k in ks]
        lines.append((*place, *("–" if one is None else _rate(one) for one in cells)))
    return PlainTable(name, title, ("policy", "benchmark", "selector", *(f"k = {k}" for k in ks)), tuple(lines), 3)


def _lengths(rows: Sequence[RepeatedRow], name: str, title: str) -> PlainTable:
    """The change that is left beside siblings of equal length, and how often the longest is chosen, beside chance."""
    lines = []
    for row in (one.row for one in rows if _settled(one) and one.row.equal_length_difference is not None):
        keys = ("equal_length_plain", "equal_length_difference")
        gaps = (with_interval(*(getattr(row, f"{key}{end}") for end in ENDS), signed=True) for key in keys)
        share = with_interval(*(getattr(row, f"chosen_longest{end}") for end in ENDS))
        ends = (str(row.equal_length_prompts), f"{share} / {_percent(row.chosen_longest_by_chance)}")
        lines.append((row.policy, row.benchmark, row.selector, *gaps, *ends))
    head = ("policy", "benchmark", "selector", "change there", "at equal length", "prompts", "longest / by chance")
    return PlainTable(name, title, head, tuple(lines), 3)


def _aurocs(rows: Sequence[RepeatedRow], name: str, title: str) -> PlainTable:
    """Of each score, by the selector that takes its smallest; above 50, events score higher."""
    shown = [one for one in rows if one.row.selector.endswith("_argmin") and _settled(one)]
    shown = [one for one in shown if one.row.auroc_within_prompt is not None]
    benchmarks = unique(one.row.benchmark for one in shown)
    at = {(one.row.policy, _named(one), one.row.benchmark): one.row for one in shown}
    lines = []
    for policy, score in unique((one.row.policy, _named(one)) for one in shown):
        found = [at.get((policy, score, b)) for b in benchmarks]
        ends = [f"auroc_within_prompt{end}" for end in ENDS]
        cells = ["–" if row is None else with_interval(*(getattr(row, key) for key in ends)) for row in found]
        lines.append((policy, score.replace("_argmin", ""), *cells))
    return PlainTable(name, title, ("policy", "score", *benchmarks), tuple(lines), 2)


def _settled(one: RepeatedRow) -> bool:
    """Whether the row has no layer or one that was settled on, beforehand or on labels."""
    return one.row.layer_chosen_on != "scan"


def _named(one: RepeatedRow) -> str:
    return f"{one.row.selector} (peeks)" if one.row.peeks else one.row.selector


def _of(one: RepeatedRow) -> tuple[str, str, str]:
    return one.row.policy, one.row.benchmark, _named(one)


def _change(one: RepeatedRow) -> str:
    row = one.row
    return with_interval(row.difference, row.difference_ci_low, row.difference_ci_high, signed=True)


def _rate(one: RepeatedRow) -> str:
    return with_interval(one.row.value, one.row.ci_low, one.row.ci_high)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _said(section: Section) -> str:
    return f"{section.metric}, {section.said_by}"
