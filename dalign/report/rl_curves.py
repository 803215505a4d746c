"""RL's curves from ``metrics.jsonl``: rewards, validation, KL, entropy, length, dead groups, clipping, as panels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalign.report.metrics import Floats
from dalign.report.svg import SERIES, FigureSvg, render

COLUMNS = 3
CROWDED = 60  # with more points, markers hide their line
Rows = Sequence[Mapping[str, Any]]

# Title, the columns of the figures by name, and those that begin a family of names ("reward/safe").
PANELS: tuple[tuple[str, Mapping[str, str], tuple[str, ...]], ...] = (
    ("reward", {"reward": "total"}, ("reward/",)),
    ("reward, validation", {"validation_reward": "total"}, ("validation_reward/",)),
    ("KL to distill, nats a token", {"validation_kl": "validation", "kl": "penalty"}, ()),
    ("entropy, nats a token", {"entropy": "entropy"}, ()),
    ("length, tokens", {"length": "rollouts", "validation_length": "validation"}, ()),
    ("dead groups, share", {"dead_groups": "as drawn", "learnt_dead_groups": "learnt from"}, ()),
    ("clipped tokens, share", {"clipped_low": "below", "clipped_high": "above"}, ()),
)


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a ``metrics.jsonl``, and how many lines are no such rows (a write that was cut off). None where there
    is no file."""
    rows, unreadable = list[dict[str, Any]](), 0
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            unreadable += 1
            continue
        if isinstance(row, dict) and _is_number(row.get("step")):
            rows.append(row)
        else:
            unreadable += 1
    return rows, unreadable


def series(rows: Rows, key: str) -> tuple[Floats, Floats]:
    """Steps in rising order and the values of a column at them, ``(S,)`` each, of the rows that have the column: NaN
    where its value is unknown, so that a line breaks there. Of two rows of one step the later one counts."""
    found = {row["step"]: row[key] for row in rows if key in row}
    values = [float(found[step]) if _is_number(found[step]) else np.nan for step in sorted(found)]
    return np.array(sorted(found), dtype=float), np.array(values, dtype=float)


def draw_curves(rows: Rows, unreadable: int = 0) -> FigureSvg | None:
    """A panel a figure that any row knows; None where there is nothing to draw."""
    panels = [(title, drawn) for title, names, families in PANELS if (drawn := _lines(rows, names, families))]
    if not panels:
        return None

    def draw(figure: Any) -> None:
        every = figure.subplots(-(-len(panels) // COLUMNS), COLUMNS, squeeze=False).ravel()
        for axes, (title, lines) in zip(every, panels, strict=False):
            _panel(axes, title, lines)
        for axes in every[len(panels) :]:
            axes.remove()

    caption = "RL by rollout. Validation is of held-out prompts, always answered from the same random streams."
    if unreadable:
        caption += f" {unreadable} lines of metrics.jsonl could not be read and are not drawn."
    return render("rl_curves", caption, (12, 3.1 * -(-len(panels) // COLUMNS)), draw)


def _lines(rows: Rows, names: Mapping[str, str], families: Sequence[str]) -> dict[str, tuple[Floats, Floats]]:
    """The series of a panel by their labels, those with a known value."""
    members = {
        key: key.removeprefix(family) for family in families for row in rows for key in row if key.startswith(family)
    }
    found = {label: series(rows, key) for key, label in {**names, **members}.items()}
    return {label: line for label, line in found.items() if np.isfinite(line[1]).any()}


def _panel(axes: Any, title: str, lines: Mapping[str, tuple[Floats, Floats]]) -> None:
    for i, (label, (steps, values)) in enumerate(lines.items()):
        colour, marker, dashes = SERIES[i % len(SERIES)]
        mark = marker if len(steps) <= CROWDED else ""
        axes.plot(steps, values, ls=dashes, marker=mark, markersize=4, lw=1.5, color=colour, label=label)
    axes.set_ylabel(title, fontsize=11)
    axes.set_xlabel("rollout", fontsize=11)
    axes.ticklabel_format(useOffset=False)
    if title.endswith("share"):
        axes.set_ylim(0, max(axes.get_ylim()[1], 0.05))
    if len(lines) > 1:
        axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)  # above: it hides no line


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
