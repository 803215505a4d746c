"""The last screen of an evaluation: a table a judge that a newcomer can read, and how to read it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dalign.report.formats import PlainTable
from dalign.report.learnt import learnt
from dalign.report.tables import ABOUT_SAFETY, SAFETY, Report, Section, percent, sections, with_interval
from dalign.report.worth import CAVEAT, worth_tables

PLAIN_WIDTH, WIDE = 100, 180
ON_PAGE_ALONE = ("chosen_", "transfer_", "abstain_")  # tables too wide for a terminal
WHERE = {"accuracy": "On tasks with a right answer", "over_refusal": "On harmless requests"}


def summary(report: Report, page: Path) -> RenderableType:
    """The summary as something rich prints; ``page`` is the report's index.html."""
    parts: list[RenderableType] = []
    for title, safety in (("SAFETY", True), ("UTILITY", False)):
        found = [s for s in sections(report) if (s.metric in ABOUT_SAFETY) == safety]
        if found:
            parts.append(Text(f"\n{title}", style="bold"))
            parts += [_table(report, section) for section in found]
    parts.append(Text(explanation(report)))
    if tables := worth_tables(report):
        parts += [Text("\nPROTOCOLS", style="bold"), *map(plain_table, tables), Text(CAVEAT)]
    for chapter in learnt(report):
        if told := [table for table in chapter.tables if not table.name.startswith(ON_PAGE_ALONE)]:
            parts += [Text(f"\n{chapter.title.upper()}", style="bold"), *map(plain_table, told), Text(chapter.said)]
    parts += [Text(f"Note: {note}", style="yellow") for note in report.run.notes]
    parts.append(Text(f"Report: {page}", style="bold"))
    return Group(*parts)


def summary_text(report: Report, page: Path, width: int = PLAIN_WIDTH) -> str:
    """The summary as plain text."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(summary(report, page))
    return stream.getvalue()


def print_summary(report: Report, page: Path) -> None:
    """Prints the summary to standard output, in colour on a terminal, plain and 100 wide elsewhere."""
    console_for(PLAIN_WIDTH).print(summary(report, page))


def console_for(width: int) -> Console:
    """A console as wide as the terminal, and ``width`` columns where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def plain_table(table: PlainTable) -> RenderableType:
    """A plain table as rich prints it."""
    shown = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for i, name in enumerate(table.head):
        shown.add_column(name, justify="left" if i < table.text else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    return Group(Text(table.title, style="italic"), shown)


def explanation(report: Report) -> str:
    """How to read the tables, in two sentences, and what the run claims."""
    n = report.n_samples
    return (
        f"All numbers are per cent, with 95 % intervals over prompts, clustered where prompts share a task. 'One "
        f"answer' is a single sample (the mean of all {n}); 'chosen' is {report.headline.words}; 'change' compares the "
        f"two on the same prompts, in points. It counts where its interval leaves out 0 and its p-value is below 0.05, "
        f"a gain's adjusted for all comparisons of its kind. 'Finished' and 'unscored' (no verdict) are of the chosen "
        f"answer where there is one, else of all {n}; the unscored are in n, not in the rate.\n{verdict(report)}"
    )


def verdict(report: Report) -> str:
    """What the paired comparisons with a single answer say, in plain words: gains, losses and the rest, counted; then
    whether utility paid for it."""
    shown = sections(report)
    safety = [s for s in shown if s.metric in SAFETY][:1]
    if not any(line.chosen for s in safety for line in s.lines):
        return "No policy here has both scores and a safety judge, so nothing was chosen among the samples."
    harm = safety[0].metric == "asr"
    said = _counted("fewer unsafe answers" if harm else "fewer answers that do not refuse", "more", safety)
    words = f"Choosing {report.headline.words} gave {said} ({safety[0].said_by})."
    for metric, better, worse in (
        ("accuracy", "more right answers", "fewer"),
        ("over_refusal", "fewer refusals", "more"),
    ):
        utility = [s for s in shown if s.metric == metric]
        if any(line.chosen for s in utility for line in s.lines):
            words += f" {WHERE[metric]}: {_counted(better, worse, utility)}."
    return words


def _counted(better: str, worse: str, found: Sequence[Section]) -> str:
    """``fewer unsafe answers in 1 of 3 comparisons (distill on a), no clear difference in 2``."""
    rows = [line.chosen for s in found for line in s.lines if line.chosen]
    named = {c: [f"{r.policy} on {r.benchmark}" for r in rows if r.claim == c] for c in ("gain", "loss")}
    where = {c: f" ({', '.join(names)})" if names else "" for c, names in named.items()}
    parts = [f"{better} in {len(named['gain'])} of {len(rows)} comparisons{where['gain']}"]
    if named["loss"]:
        parts.append(f"{worse} in {len(named['loss'])}{where['loss']}")
    unknown = sum(row.difference is None for row in rows)
    if rest := len(rows) - unknown - len(named["gain"]) - len(named["loss"]):
        parts.append(f"no clear difference in {rest}")
    if unknown:
        parts.append(f"no verdicts to compare in {unknown}")
    return ", ".join(parts)


def _table(report: Report, section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", title_style="italic", box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("policy", "benchmark"):
        table.add_column(name)
    for name in ("one answer", "chosen", "change", "finished", "unscored", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    before = ""
    for line in section.lines:
        single, row = line.single, line.chosen or line.single
        if before and single.policy != before:
            table.add_section()
        chosen, change = "–", "–"
        if line.chosen:
            chosen = with_interval(row.value, row.ci_low, row.ci_high)
            change = with_interval(row.difference, row.difference_ci_low, row.difference_ci_high, signed=True)
        table.add_row(
            single.policy if single.policy != before else "",
            Text(single.benchmark),
            with_interval(single.value, single.ci_low, single.ci_high),
            chosen,
            Text(change, style={"gain": "green", "loss": "red"}.get(row.claim, "")),
            percent(row.finished_rate),
            percent(row.n_unscored / row.n_prompts),
            str(row.n_prompts),
        )
        before = single.policy
    return table
