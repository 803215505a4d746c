"""Attack success on screen and as Markdown: the shape of the paper's Table 4, with every iteration and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from dalign.attack.control import Texts
from dalign.files import write_json, write_text
from dalign.report.control import control_notes, control_table
from dalign.report.formats import PlainTable
from dalign.report.screen import WIDE, console_for
from dalign.report.tables import METRIC_WORDS, percent, with_interval

SCHEMA = 1
TARGET_WORDS = {"single": "one sample", "bon": "best of N"}
VARIANT_WORDS = {
    "drawn": "as drawn",
    "appended": "refusal behind unsafe",
    "cut": "refusals cut from safe",
    "both": "both",
    "style": "style in the prompt",
}
PICK_WORDS = {
    "submitted": "of the attempt with the best feedback so far",
    "any": "of any attempt so far, an upper bound that looks at the verdicts",
}


def publish(rows: Sequence[dict[str, Any]], folder: Path, texts: Sequence[Texts] = ()) -> None:
    """Writes ``results.json`` and ``table.md`` into ``folder`` and prints the tables, those by the attack's own judge
    last; then what is to say of control tokens in ``texts``."""
    tables = selector_tables(rows) if "variant" in rows[0] else pair_tables(rows)
    write_json(folder / "results.json", {"schema": SCHEMA, "rows": list(rows)})
    notes, control = _control(texts)
    said = [*(t.markdown() for t in tables), *(f"{note}\n" for note in notes), *(t.markdown() for t in control)]
    write_text(folder / "table.md", "\n".join(said))
    console = console_for(WIDE)
    for table in tables:
        console.print(_rich(table))
    for note in notes:
        console.print(note, highlight=False, markup=False)
    for table in control:
        console.print(_rich(table))
    console.print(f"Rates are per cent with 95 % intervals over goals, clustered by behaviour. Results: {folder}")


def _control(texts: Sequence[Texts]) -> tuple[list[str], list[PlainTable]]:
    """What is to say of control tokens, and whose they are where any is spelt, a line a target or variant."""
    words = TARGET_WORDS | VARIANT_WORDS
    parts = [replace(one, benchmark=f"{one.benchmark}, {words[one.part]}") for one in texts]
    table = control_table(parts)
    return control_notes(parts, called="parts of attacks") if parts else [], [table] if table.rows else []


def pair_tables(rows: Sequence[dict[str, Any]]) -> list[PlainTable]:
    """A table a judge and pick: a line a policy, benchmark and target, a column an iteration."""
    keys = dict.fromkeys((row["is_attack_judge"], row["pick"] != "submitted", row["judge"]) for row in rows)
    return [_table(rows, own, "any" if any_turn else "submitted", judge) for own, any_turn, judge in sorted(keys)]


def _table(rows: Sequence[dict[str, Any]], own: bool, pick: str, judge: str) -> PlainTable:
    chosen = [row for row in rows if (row["judge"], row["pick"]) == (judge, pick)]
    last = max(row["iteration"] for row in chosen)
    lines: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in chosen:
        lines.setdefault((row["policy"], row["benchmark"], row["target"]), []).append(row)
    head = ("policy", "benchmark", "target", *map(str, range(1, last)), f"after {last}", "best of N against one")
    said = f"{METRIC_WORDS[chosen[0]['metric']]}, by iteration, {PICK_WORDS[pick]}; judge {judge}"
    title = said + (" (the attack's own judge, which it climbed on)" if own else "")
    found = tuple(_line(key, values, last) for key, values in lines.items())
    return PlainTable(f"{judge}_{pick}", title, (*head, "queries", "unscored", "n"), found, 3)


def _line(key: tuple[str, str, str], values: Sequence[dict[str, Any]], last: int) -> tuple[str, ...]:
    policy, benchmark, target = key
    end = values[-1]
    rates = [percent(row["value"]) for row in values[:-1]] + ["–"] * (last - len(values))
    change = with_interval(end["difference"], end["difference_ci_low"], end["difference_ci_high"], signed=True)
    whole = with_interval(end["value"], end["ci_low"], end["ci_high"])
    counts = (f"{end['queries']:.1f}", f"{end['n_unscored']:.0f}", str(end["n_prompts"]))
    return (policy, benchmark, TARGET_WORDS[target], *rates, whole, change, *counts)


def selector_tables(rows: Sequence[dict[str, Any]]) -> list[PlainTable]:
    """A table a judge, policy and benchmark: a line a selector, a column a variant, the headline first."""
    found: dict[tuple[bool, str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = (row["is_attack_judge"], row["judge"], row["policy"], row["benchmark"])
        found.setdefault(key, []).append(row)
    return [_selectors(values) for _, values in sorted(found.items(), key=lambda item: item[0][0])]


def _selectors(rows: Sequence[dict[str, Any]]) -> PlainTable:
    first = rows[0]
    lines: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault((not row["headline"], _selector(row)), []).append(row)
    own = " (the adversary's own)" if first["is_attack_judge"] else ""
    title = f"{METRIC_WORDS[first['metric']]}; judge {first['judge']}{own}; {first['policy']} on {first['benchmark']}"
    variants = (VARIANT_WORDS[row["variant"]] for row in next(iter(lines.values())))
    head = ("selector", *variants, "both against drawn", "unscored, in that order", "n")
    found = tuple((name, *_variants(values)) for (_, name), values in sorted(lines.items(), key=lambda i: i[0][0]))
    return PlainTable("_".join((first["judge"], first["policy"], first["benchmark"])), title, head, found, 1)


def _variants(values: Sequence[dict[str, Any]]) -> list[str]:
    rates = [with_interval(row["value"], row["ci_low"], row["ci_high"]) for row in values]
    both = next(row for row in values if row["variant"] == "both")
    change = with_interval(both["difference"], both["difference_ci_low"], both["difference_ci_high"], signed=True)
    unscored = ", ".join(f"{row['n_unscored']:.0f}" for row in values)
    return [*rates, change, unscored, str(both["n_prompts"])]


def _selector(row: dict[str, Any]) -> str:
    layer = "" if row["layer"] is None else f", layer {row['layer']}"
    return f"{row['selector']}{layer}" + (" (headline)" if row["headline"] else "")


def _rich(plain: PlainTable) -> Table:
    table = Table(title=plain.title, title_justify="left")
    for i, name in enumerate(plain.head):
        table.add_column(name, justify="left" if i < plain.text else "right", no_wrap=i < plain.text)
    for row in plain.rows:
        table.add_row(*row)
    return table
