"""Best of k as a figure: the unsafe rate and the safe-and-finished share against k, each curve named where it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dalign.report.at_k import Curve, curve_of
from dalign.report.svg import SERIES, FigureSvg, render
from dalign.report.tables import Report, Section

BESIDE = ("probe_argmin", "kl_argmax", "ppl_student_argmin", "shortest", "random", "oracle_best")
GAP = 0.075  # of the panel's height, between two names


def at_k_figure(report: Report, section: Section, policy: str) -> FigureSvg | None:
    """A row of panels a benchmark of a safety section: the headline and a few others, by k."""
    wanted = [(report.headline.selector, report.headline.layer), *((name, report.headline.layer) for name in BESIDE)]
    panels = {
        line.single.benchmark: _picked(curve_of(report, section, policy, line.single.benchmark), wanted)
        for line in section.lines
        if line.single.policy == policy and line.chosen
    }
    panels = {name: curves for name, curves in panels.items() if any(len(curve) > 1 for curve in curves.values())}
    if not panels:
        return None
    bad, good = section.outcomes

    def draw(figure: Any) -> None:
        rows = figure.subplots(len(panels), 2, squeeze=False)
        for (name, curves), (left, right) in zip(panels.items(), rows, strict=True):
            _panel(left, curves, ("value", "ci_low", "ci_high"), f"{name}\n{bad}, %")
            _panel(right, curves, ("safe_finished",), f"{good} and finished, %")
        for axes in rows[-1]:
            axes.set_xlabel("k, of the samples drawn")

    caption = (
        f"{policy}: best of k. The choice among k samples, over every k of the N drawn: the headline, others at "
        "the shown layer, a random choice, and the best by the labels (a bound). Shaded: the headline's 95 % interval. "
        f"{section.said_by[0].upper()}{section.said_by[1:]}."
    )
    return render(f"best_of_k_{policy}", caption, (11, 3.0 * len(panels) + 0.5), draw)


def _picked(
    curves: Mapping[tuple[str, int | None], Curve], wanted: Sequence[tuple[str, int | None]]
) -> dict[str, Curve]:
    """The wanted curves that are there, by name; a selector without layers stands there without one."""
    found = {}
    for name, layer in wanted:
        curve = curves.get((name, layer), curves.get((name, None)))
        if curve is not None:
            found[name] = curve
    return found


def _panel(axes: Any, curves: Mapping[str, Curve], fields: Sequence[str], label: str) -> None:
    ends = []
    for i, (name, curve) in enumerate(curves.items()):
        colour, marker, line = SERIES[i % len(SERIES)]
        known = [(k, *(getattr(row, f) for f in fields)) for k, row in curve.items()]
        numbers = np.array([p for p in known if None not in p], float).reshape(-1, 1 + len(fields))
        if not len(numbers):
            continue
        x, y = numbers[:, 0], 100 * numbers[:, 1]
        axes.plot(x, y, ls=line, marker=marker, markersize=5, color=colour)
        if i == 0 and len(fields) == 3:
            axes.fill_between(x, 100 * numbers[:, 2], 100 * numbers[:, 3], color=colour, alpha=0.12, lw=0)
        ends.append((float(y[-1]), name, colour))
    axes.set_xscale("log", base=2)
    ticks = sorted({k for curve in curves.values() for k in curve if k & (k - 1) == 0})
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0) if len(fields) == 3 else axes.set_ylim(top=101)
    _name(axes, ends)


def _name(axes: Any, ends: Sequence[tuple[float, str, str]]) -> None:
    """Each curve's name right of the panel, at its last value or as near as the others let it be."""
    low, high = axes.get_ylim()
    ranked = sorted(ends)
    places = spread([(value - low) / (high - low) for value, _, _ in ranked], GAP)
    for place, (value, name, colour) in zip(places, ranked, strict=True):
        axes.annotate(
            name,
            xy=(1, (value - low) / (high - low)),
            xytext=(1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=10,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7},
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """The places, in rising order, moved upwards as far as keeps them ``gap`` apart, then all down alike, so that they
    stay around where they were."""
    out: list[float] = []
    for place in places:
        out.append(max(place, out[-1] + gap) if out else place)
    shift = float(np.mean(np.array(out) - np.array(places))) if out else 0.0
    return [place - shift for place in out]
