"""`dalign report A B ... --out DIR`: many runs, and the paper's published rows, as the paper's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dalign.errors import ConfigError
from dalign.files import write_text
from dalign.report.configurations import PUBLISHED, Entry, read_published
from dalign.report.document import bullets, document, figure, paragraphs
from dalign.report.formats import PlainTable
from dalign.report.gathered_figures import layer_curves, length_ranges, utility_maps
from dalign.report.gathered_tables import tables
from dalign.report.published import CAVEATS
from dalign.report.repeats import repeats_of
from dalign.report.repeats_tables import CAVEAT as POOLED
from dalign.report.repeats_tables import repeats_csv, repeats_tables
from dalign.report.rl_pool import pooled_changes
from dalign.report.rl_tables import CAVEAT as RL
from dalign.report.rl_tables import rl_csv, rl_tables
from dalign.report.rl_words import sentence
from dalign.report.run_facts import RunFacts, facts_of
from dalign.report.screen import WIDE, console_for, plain_table
from dalign.report.svg import FigureSvg
from dalign.report.tables import Report, sections

__all__ = ["facts_of", "print_gathered", "read_published", "write_gathered", "write_pooled"]


def write_gathered(
    runs: Sequence[RunFacts], out: Path, *, published: Sequence[Entry] = (), seed: int = 0
) -> list[PlainTable]:
    """Writes the tables of ``runs`` and ``published`` below ``out``, each as .md, .csv and .tex, and all of them with
    their figures as index.html; returns the tables. Raises ``ConfigError`` where ``out`` cannot be written, or where
    two runs have one name."""
    _check_names(runs)
    entries = [*published, *(entry for run in runs for entry in run.entries)]
    found = tables(entries, runs, seed=seed)
    write_tables(found, out, document("configurations", _page(entries, runs, found)))
    return found


def write_tables(found: Sequence[PlainTable], out: Path, page: str, more: Mapping[str, str] | None = None) -> None:
    """Each table as .md, .csv and .tex below ``out``, ``page`` as index.html, and ``more`` files by their names. Raises
    ``ConfigError`` where ``out`` cannot be written."""
    files = {f"{t.name}.{s}": text for t in found for s, text in t.texts().items()}
    try:
        for name, text in {**files, **(more or {}), "index.html": page}.items():
            write_text(out / name, text)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror}); name another folder") from error


def _check_names(runs: Sequence[RunFacts]) -> None:
    known: dict[str, Path] = {}
    for run in runs:
        if run.source in (*known, PUBLISHED):
            other = known.get(run.source, "the published rows")
            raise ConfigError(f"{run.folder} and {other} are both called {run.source!r}; rename a folder")
        known[run.source] = run.folder


def _page(entries: Sequence[Entry], runs: Sequence[RunFacts], found: Sequence[PlainTable]) -> list[str]:
    figures: list[FigureSvg | None] = [
        *utility_maps(entries),
        *layer_curves([one for run in runs for one in run.layers]),
        length_ranges([one for run in runs for one in run.lengths]),
    ]
    parts = ["<h1>Configurations side by side</h1>", *(table.html() for table in found[:2])]
    parts += [figure(one) for one in figures if one is not None]
    parts += [table.html() for table in found[2:]]
    published = any(e.source == PUBLISHED for e in entries)
    return parts + ([f"<h2>Of the published numbers</h2>{bullets(CAVEATS)}"] if published else [])


def write_pooled(reports: Sequence[Report], out: Path) -> list[PlainTable]:
    """Writes what ``reports``, of runs that differ in their seeds alone, give together: the tables, every row of them
    as rows.csv, and all tables as index.html; returns the tables. Raises as ``repeats_of`` and ``write_tables`` do."""
    found = repeats_of(reports)
    shown = repeats_tables(found, sections(reports[0]))
    parts = [f"<h1>{len(reports)} runs as one experiment</h1>", *paragraphs(POOLED), *(t.html() for t in shown)]
    files = {"rows.csv": repeats_csv(found)}
    if changes := pooled_changes([report.changes for report in reports]):
        after = rl_tables(changes)
        parts += ["<h2>What RL changed</h2>", *paragraphs(sentence(changes), RL), *(t.html("h3") for t in after)]
        shown, files = [*shown, *after], {**files, "rl.csv": rl_csv(changes)}
    write_tables(shown, out, document("runs pooled", parts), files)
    return shown


def print_gathered(found: Sequence[PlainTable], out: Path) -> None:
    """Prints the first table and names the files."""
    console = console_for(WIDE)
    for table in found[:1]:
        console.print(plain_table(table))
    console.print(f"{', '.join(table.name for table in found)}: {out / 'index.html'}, and .md, .csv, .tex beside it")
