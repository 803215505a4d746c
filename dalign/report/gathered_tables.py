"""Runs and published rows side by side as plain tables, in the shape of the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, TypeVar

from dalign.report.configurations import ONE_ANSWER, PUBLISHED, Change, Entry, changes, gaps
from dalign.report.formats import PlainTable
from dalign.report.run_facts import RunFacts
from dalign.report.tables import with_interval

T = TypeVar("T")
FLOOR = 0.3
NO_STUDENTS = ("teacher", "base")
WHO = ("source", "stage", "teacher", "student")


def tables(entries: Sequence[Entry], runs: Sequence[RunFacts], *, seed: int = 0) -> list[PlainTable]:
    """The tables that there are numbers for: changes over configurations (the paper's Tables 1 to 3), what beats the
    similarity in how many, every configuration (10 to 20), rates by temperature where runs sampled at several, how far
    students stay behind their teachers, utility by student and teacher; of runs also their layers, the lengths of their
    responses, and PAIR (4)."""
    found = changes([e for e in entries if e.stage not in NO_STUDENTS], seed=seed)
    fall = "Relative fall against one answer, runs pooled, per cent (unsafe answers: more is better; right ones: less)"
    ratios = (
        f"{fall}: mean of the configurations' ratios, as the paper counts, with 95 % bounds over teachers and students"
    )
    means = f"{fall}: ratio of means over configurations, and the per cent of these that it makes worse"
    every = [
        _summary(found, "changes", ratios, _ratio),
        _summary(found, "changes_of_means", means, _means),
        _against_similarity(entries),
        _configurations(entries),
        _temperatures(entries),
        _gap(entries),
        _utility(entries),
        _floor(entries),
        _layers(runs),
        _lengths(runs),
        _pair(runs),
    ]
    return [table for table in every if table.rows]


def _summary(found: Sequence[Change], name: str, title: str, cell: Callable[[Change], str]) -> PlainTable:
    benchmarks = unique(c.benchmark for c in found)
    rows = []
    for source, stage, selector in unique((c.source, c.stage, c.selector) for c in found):
        at = {c.benchmark: c for c in found if (c.source, c.stage, c.selector) == (source, stage, selector)}
        first = next(iter(at.values()))
        shown = f"{selector} (peeks)" if first.peeks else selector
        cells = [cell(at[b]) if b in at else "–" for b in benchmarks]
        rows.append((source, stage, shown, str(max(c.n for c in at.values())), *cells))
    return PlainTable(name, title, ("source", "stage", "selector", "n", *benchmarks), tuple(rows), 3)


def _ratio(change: Change) -> str:
    ends = "" if change.interval is None else " [{:.0f}, {:.0f}]".format(*(100 * x for x in change.interval))
    return f"{100 * change.mean_of_ratios:.1f}{ends}"


def _means(change: Change) -> str:
    return f"{100 * change.ratio_of_means:.1f} ({100 * change.raised:.0f})"


def _against_similarity(entries: Sequence[Entry]) -> PlainTable:
    """In how many configurations each selector does better than the similarity at its fixed layer, ties half."""
    named = {e.selector for e in entries if e.selector.startswith("similarity_argmin") and not e.peeks}
    fixed = {(e.configuration, e.benchmark): e for e in entries if e.selector in named}
    names = unique(e.benchmark for e in entries)
    wins: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for e in entries:
        other = fixed.get((e.configuration, e.benchmark))
        if other is not None and e.selector not in named and e.stage not in NO_STUDENTS:
            win = 0.5 if e.rate == other.rate else float((e.rate > other.rate) == e.higher)
            name = f"{e.selector} (peeks)" if e.peeks else e.selector
            wins.setdefault((pool(e), e.stage, name), {}).setdefault(e.benchmark, []).append(win)
    rows = [
        (*place, *(f"{sum(found[b]):g} of {len(found[b])}" if b in found else "–" for b in names))
        for place, found in wins.items()
    ]
    title = "Configurations in which a selector does better than the similarity at its fixed layer, ties half"
    return PlainTable("against_similarity", title, ("source", "stage", "selector", *names), tuple(rows), 3)


def _floor(entries: Sequence[Entry]) -> PlainTable:
    """How much utility students have to lose."""
    single = students_utility(entries)
    rows = []
    for place in unique((pool(e), e.stage, e.benchmark) for e in single):
        rates = sorted(e.rate for e in single if (pool(e), e.stage, e.benchmark) == place)
        low = sum(rate <= FLOOR for rate in rates)
        rows.append((*place, str(len(rates)), *map(_rate, (rates[0], median(rates), rates[-1])), str(low)))
    head = ("source", "stage", "benchmark", "students", "lowest", "median", "highest", f"at most {100 * FLOOR:.0f} %")
    title = "What utility students have to lose: right answers in one, per cent (chance is 25 among four choices)"
    return PlainTable("utility_floor", title, head, tuple(rows), 3)


def _configurations(entries: Sequence[Entry]) -> PlainTable:
    names = unique(e.benchmark for e in entries)
    rate = {(e.configuration, e.selector, e.benchmark): e.rate for e in entries}
    rows = [
        (*place, selector, *(_rate(rate.get((place, selector, name))) for name in names))
        for place, selector in unique((e.configuration, e.selector) for e in entries)
    ]
    title = "Every configuration, rates in per cent"
    return PlainTable("configurations", title, (*WHO, "selector", *names), tuple(rows), 5)


def _temperatures(entries: Sequence[Entry]) -> PlainTable:
    """One answer and the headline's choice at each temperature; without rows where there is only one."""
    known = [e for e in entries if e.temperature is not None and (e.selector == ONE_ANSWER or e.headline)]
    several = len({e.temperature for e in known}) > 1
    names = unique(e.benchmark for e in known)
    said = {e: "greedy" if e.temperature == 0 else f"{e.temperature:g}" for e in known}
    place = {e: (e.stage, e.teacher, e.student, said[e]) for e in known}
    order = sorted(known, key=lambda e: (e.stage, e.teacher, e.student, e.selector != ONE_ANSWER, e.temperature or 0.0))
    rows = []
    for key in unique((*place[e], e.selector) for e in order) if several else []:
        rates = [[e.rate for e in known if (*place[e], e.selector) == key and e.benchmark == name] for name in names]
        rows.append((*key, *(_rate(sum(found) / len(found) if found else None) for found in rates)))
    head = ("stage", "teacher", "student", "temperature", "selector", *names)
    title = "By temperature, rates in per cent (the mean of runs that share one)"
    return PlainTable("temperatures", title, head, tuple(rows), 5)


def _gap(entries: Sequence[Entry]) -> PlainTable:
    rows = [
        (*e.configuration, e.benchmark, _rate(e.rate), _rate(teacher), f"{100 * (e.rate - teacher):+.1f}")
        for e, teacher in gaps(entries)
    ]
    head = (*WHO, "benchmark", ONE_ANSWER, "teacher's", "gap")
    return PlainTable("gap", "Alignment gap: students beside their teachers, in per cent", head, tuple(rows), 5)


def _utility(entries: Sequence[Entry]) -> PlainTable:
    """Right answers of each student by teacher: the numbers of the heat map."""
    single = students_utility(entries)
    teachers = unique(e.teacher for e in single)
    rate = {(e.source, e.stage, e.benchmark, e.student, e.teacher): e.rate for e in single}
    rows = [
        (*place, *(_rate(rate.get((*place, teacher))) for teacher in teachers))
        for place in unique((e.source, e.stage, e.benchmark, e.student) for e in single)
    ]
    head = ("source", "stage", "benchmark", "student", *teachers)
    return PlainTable("utility", "Right answers by student and teacher, one answer, per cent", head, tuple(rows), 4)


def _layers(runs: Sequence[RunFacts]) -> PlainTable:
    every = [one for run in runs for one in run.layers]
    last = max((one.layer for one in every), default=0)
    at = {(one.configuration, one.benchmark, one.selector, one.layer): one for one in every}
    rows = []
    for place, benchmark, selector in unique((o.configuration, o.benchmark, o.selector) for o in every):
        found = [at.get((place, benchmark, selector, layer)) for layer in range(last + 1)]
        cells = ["–" if one is None else _rate(one.value) + ("*" if one.fixed else "") for one in found]
        rows.append((*place, benchmark, selector, *cells))
    title = "Rates by layer, per cent; 0: embeddings, the placebo; *: the layer fixed beforehand"
    return PlainTable("layers", title, (*WHO, "benchmark", "selector", *map(str, range(last + 1))), tuple(rows), 6)


def _lengths(runs: Sequence[RunFacts]) -> PlainTable:
    rows = [
        (*one.configuration, one.benchmark, *(f"{x:.0f}" for x in one.tokens), f"{100 * one.cut:.0f}", str(one.n))
        for run in runs
        for one in run.lengths
    ]
    head = (*WHO, "benchmark", "25 %", "median", "75 %", "95 %", "cut off, %", "n")
    return PlainTable("lengths", "Response lengths in tokens", head, tuple(rows), 5)


def _pair(runs: Sequence[RunFacts]) -> PlainTable:
    rows = []
    for run in runs:
        keys = ("attack", "policy", "benchmark", "judge", "metric", "iteration")
        for place in unique(tuple(row[key] for key in keys) for row in run.attacks):
            own = {row["target"]: row for row in run.attacks if tuple(row[key] for key in keys) == place}
            *who, last = map(str, place)
            cells = [_attacked(own.get(target)) for target in ("single", "bon")]
            change = own.get("bon", {})
            ends = (change.get(f"difference{end}") for end in ("", "_ci_low", "_ci_high"))
            n = str(max(row["n_prompts"] for row in own.values()))
            rows.append((run.source, *who, last, *cells, with_interval(*ends, signed=True), n))
    head = ("source", "attack", "policy", "benchmark", "judge", "metric", "iterations", "one sample", "best of N")
    title = "Attack success by the attempt an attacker would submit, per cent with 95 % intervals"
    return PlainTable("pair", title, (*head, "change", "n"), tuple(rows), 6)


def _attacked(row: dict[str, Any] | None) -> str:
    return "–" if row is None else with_interval(row["value"], row["ci_low"], row["ci_high"])


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def unique(values: Iterable[T]) -> list[T]:
    """The values, each once, in order."""
    return list(dict.fromkeys(values))


def pool(entry: Entry) -> str:
    """The published rows are one source, runs together another."""
    return entry.source if entry.source == PUBLISHED else "runs"


def students_utility(entries: Iterable[Entry]) -> list[Entry]:
    """Right answers in one, of students."""
    return [e for e in entries if e.higher and e.selector == ONE_ANSWER and e.stage not in NO_STUDENTS]
