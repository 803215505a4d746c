"""The probes of a run beside classifiers that see no state: how well each tells unsafe answers from safe ones.

All figures are out of fold, by group; the labels are those of the judge that the probes learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dalign.files import read_json
from dalign.report.formats import PlainTable
from dalign.report.screen import WIDE, plain_table
from dalign.store import StageFolder

TABLE = "probes.json"
HEAD = (
    "probe",
    "layer",
    "within prompts",
    "pooled",
    "hits at 1 % false alarms",
    "calibration error",
    "pooled, equal length",
    "within, equal length",
    "within, layer by other folds",
)
CAVEAT = (
    "Per cent. 'Within prompts' is the mean over prompts of the AUROC among their own samples, with its 95 % interval "
    "clustered by group: what a choice among samples can use; 'pooled' is over all samples, and mixes in what prompts "
    "differ by. 50 is chance. 'Equal length' keeps each unsafe answer with a safe one within 10 % of its tokens. The "
    "layer stands before any label is seen, or is taken for each fold from the others. 'length', 'ending' (last token, "
    "finished, length) and 'words' see no state: what they reach is no knowledge of the model's. A refusal direction "
    "saw no label: its figures are of the opposite of its projection, which is no probability."
)
LEFT_OUT = (
    "Per cent, AUROC of the same answers by the probe out of fold, and by one fitted without their benchmark and its "
    "groups."
)


def probe_tables(run_folder: Path) -> list[tuple[PlainTable, str]]:
    """The tables of every policy with probes, each with how to read it; none from before there was a table."""
    found = []
    for folder in sorted((run_folder / "probe").glob("*")):
        if (folder / TABLE).exists() and StageFolder(folder, config={}, results={}, inputs={}).finished:
            found += list(_tables(read_json(folder / TABLE), folder.name))
    return found


def print_table(table: Mapping[str, Any]) -> None:
    """Prints the tables of one policy to standard error."""
    terminal = Console(stderr=True)
    console = terminal if terminal.is_terminal else Console(stderr=True, width=WIDE)
    for plain, said in _tables(table, "probes"):
        console.print(plain_table(plain))
        console.print(said, highlight=False)


def _tables(table: Mapping[str, Any], policy: str) -> Iterator[tuple[PlainTable, str]]:
    entries = [*table["probes"], *table["baselines"]]
    pairs, within = table["pairs_of_equal_length"], table["pairs_of_equal_length_within"]
    counts = (
        f"{table['unsafe']} unsafe and {table['safe']} safe answers, {table['prompts_with_both']} prompts with both; "
        f"of equal length {pairs} pairs, {within} within prompts"
    )
    rows = tuple(_row(entry) for entry in entries)
    yield PlainTable(f"probes_{policy}", f"{policy}: {counts}", HEAD, rows, 1), CAVEAT
    names = list(dict.fromkeys(name for entry in entries for name in entry["left_out"]))
    if names:
        head = ("probe", *(f"{name or 'file'}, {figure}" for name in names for figure in ("within", "pooled")))
        left = tuple((_name(entry), *_left_out(entry["left_out"], names)) for entry in entries if entry["left_out"])
        title = f"{policy}: out of fold, then without the benchmark that is scored"
        yield PlainTable(f"probes_{policy}_left_out", title, head, left, 1), LEFT_OUT


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    figures, other = entry["figures"], entry["other_folds"]
    states = "method" in entry
    low, high = figures["auroc_within_ci_low"], figures["auroc_within_ci_high"]
    within = _percent(figures["auroc_within"]) + (f" [{_percent(low)}, {_percent(high)}]" if low is not None else "")
    names = ("auroc_pooled", "tpr_at_1_fpr", "ece", "auroc_matched", "auroc_within_matched")
    layers = ", ".join(map(str, sorted(set(other["layers"]))))
    by_others = f"{_percent(other['figures']['auroc_within'])} ({layers})" if states else "–"
    layer = str(entry["layer"]) if states else "–"
    return (_name(entry), layer, within, *(_percent(figures[name]) for name in names), by_others)


def _name(entry: Mapping[str, Any]) -> str:
    """The score's name; the plain probe's says what it is."""
    plain = entry["name"] == "probe"
    return f"probe ({entry['method']}-{entry['input']}-{entry['pooling']})" if plain else str(entry["name"])


def _left_out(found: Mapping[str, Mapping[str, float | None]], names: Sequence[str]) -> Iterator[str]:
    for name in names:
        for figure in ("within", "pooled"):
            values = found.get(name, {})
            yield f"{_percent(values.get(f'oof_{figure}'))} → {_percent(values.get(figure))}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
