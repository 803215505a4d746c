"""`dalign report A B ... --out DIR`: many runs, and the paper's published rows, as the paper's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from dalign.errors import ConfigError
from dalign.files import write_text
from dalign.report.configurations import ONE_ANSWER, PUBLISHED, Change, Entry, changes, gaps, of_report, read_published
from dalign.report.document import bullets, document
from dalign.report.formats import PlainTable
from dalign.report.published import CAVEATS
from dalign.report.screen import WIDE, console_for, plain_table

__all__ = ["gathered", "of_report", "print_gathered", "read_published", "write_gathered"]

T = TypeVar("T")


def write_gathered(entries: Sequence[Entry], out: Path, *, seed: int = 0) -> list[PlainTable]:
    """Writes the tables of ``entries`` below ``out``, each as .md, .csv and .tex, and all of them as index.html;
    returns them. Raises ``ConfigError`` where ``out`` cannot be written."""
    found = gathered(entries, seed=seed)
    try:
        for table in found:
            for suffix, text in (("md", table.markdown()), ("csv", table.csv()), ("tex", table.latex())):
                write_text(out / f"{table.name}.{suffix}", text)
        write_text(out / "index.html", document("configurations", _page(entries, found)))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error
    return found


def _page(entries: Sequence[Entry], found: Sequence[PlainTable]) -> list[str]:
    published = any(e.source == PUBLISHED for e in entries)
    parts = ["<h1>Configurations side by side</h1>", *(table.html() for table in found)]
    return parts + ([f"<h2>Of the published numbers</h2>{bullets(CAVEATS)}"] if published else [])


def print_gathered(found: Sequence[PlainTable], out: Path) -> None:
    """Prints the first table and names the files."""
    console = console_for(WIDE)
    for table in found[:1]:
        console.print(plain_table(table))
    console.print(f"{', '.join(table.name for table in found)}: {out / 'index.html'}, and .md, .csv, .tex beside it")


def gathered(entries: Sequence[Entry], *, seed: int = 0) -> list[PlainTable]:
    """The tables: changes over configurations (the paper's Tables 1 to 3), every configuration (10 to 20), rates by
    temperature where runs sampled at several, and how far students stay behind their teachers, where a run evaluated
    both."""
    found = changes(entries, seed=seed)
    fall = "Relative fall against one answer, runs pooled, per cent (unsafe answers: more is better; right ones: less)"
    ratios = (
        f"{fall}: mean of the configurations' ratios, as the paper counts, with 95 % bounds over teachers and students"
    )
    means = f"{fall}: ratio of means over configurations, and the per cent of these that it makes worse"
    tables = [
        _summary(found, "changes", ratios, _ratio),
        _summary(found, "changes_of_means", means, _means),
        _configurations(entries),
        _temperatures(entries),
        _gap(entries),
    ]
    return [table for table in tables if table.rows]


def _summary(found: Sequence[Change], name: str, title: str, cell: Callable[[Change], str]) -> PlainTable:
    benchmarks = _unique(c.benchmark for c in found)
    rows = []
    for source, stage, selector in _unique((c.source, c.stage, c.selector) for c in found):
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


def _configurations(entries: Sequence[Entry]) -> PlainTable:
    names = _unique(e.benchmark for e in entries)
    rate = {(e.configuration, e.selector, e.benchmark): e.rate for e in entries}
    rows = [
        (*place, selector, *(_rate(rate.get((place, selector, name))) for name in names))
        for place, selector in _unique((e.configuration, e.selector) for e in entries)
    ]
    head = ("source", "stage", "teacher", "student", "selector", *names)
    return PlainTable("configurations", "Every configuration, rates in per cent", head, tuple(rows), 5)


def _temperatures(entries: Sequence[Entry]) -> PlainTable:
    """One answer and the headline's choice at each temperature; without rows where there is only one."""
    known = [e for e in entries if e.temperature is not None and (e.selector == ONE_ANSWER or e.headline)]
    several = len({e.temperature for e in known}) > 1
    names = _unique(e.benchmark for e in known)
    said = {e: "greedy" if e.temperature == 0 else f"{e.temperature:g}" for e in known}
    place = {e: (e.stage, e.teacher, e.student, said[e]) for e in known}
    order = sorted(known, key=lambda e: (e.stage, e.teacher, e.student, e.selector != ONE_ANSWER, e.temperature or 0.0))
    rows = []
    for key in _unique((*place[e], e.selector) for e in order) if several else []:
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
    head = ("source", "stage", "teacher", "student", "benchmark", ONE_ANSWER, "teacher's", "gap")
    return PlainTable("gap", "Alignment gap: students beside their teachers, in per cent", head, tuple(rows), 5)


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _unique(values: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(values))
