"""The paper's figures for this run: safety of the policies, one answer against the majority, response lengths.

Rates stand with their 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dalign.report.k_figure import at_k_figure
from dalign.report.metrics import Floats
from dalign.report.rows import Row
from dalign.report.score_figures import densities, layers
from dalign.report.svg import BLUE, GREEN, ORANGE, SERIES, FigureSvg, legend_above, render
from dalign.report.tables import SAFETY, Report, Section, is_headline, sections


def draw_figures(report: Report) -> list[FigureSvg]:
    """Every figure that the run has data for."""
    safety = [s for s in sections(report) if s.metric in SAFETY]
    drawn = [_traces(report), *(_safety_figures(report, safety[0]) if safety else ()), _lengths(report)]
    return [figure for figure in drawn if figure is not None]


def _traces(report: Report) -> FigureSvg | None:
    """What became of the teacher's traces, by category: the teacher's own unsafe answers among them."""
    counts = report.run.traces
    if not counts:
        return None
    names = sorted(counts, key=lambda name: -_unsafe_share(counts[name]))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        unsafe = [100 * _unsafe_share(counts[name]) for name in names]
        other = [
            100 - share - 100 * counts[name].get("kept", 0) / _total(counts[name])
            for name, share in zip(names, unsafe, strict=True)
        ]
        places = range(len(names))
        axes.barh(places, unsafe, color=ORANGE, label="judged unsafe")
        axes.barh(places, other, left=unsafe, color="0.8", hatch="///", ec="0.4", label="dropped for form or length")
        axes.set_yticks(places, [f"{name} (n = {_total(counts[name])})" for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("of the teacher's traces, %")
        legend_above(figure, axes)

    unsafe = sum(c.get("unsafe", 0) for c in counts.values())
    caption = (
        f"The teacher on the training prompts, policies in its context: {unsafe} traces of "
        f"{sum(map(_total, counts.values()))} judged unsafe, each counted in all of its categories. The student "
        "learns what is not dropped."
    )
    return render("teacher_traces", caption, (8, 0.34 * len(names) + 1.4), draw)


def _unsafe_share(counts: dict[str, int]) -> float:
    return counts.get("unsafe", 0) / _total(counts)


def _total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _safety_figures(report: Report, section: Section) -> Iterator[FigureSvg | None]:
    yield _policies(section)
    yield _majority(report, section)
    for policy in dict.fromkeys(line.single.policy for line in section.lines if line.chosen):
        yield densities(report, section, policy)
        yield layers(report, section, policy)
        yield at_k_figure(report, section, policy)


def _policies(section: Section) -> FigureSvg:
    """ASR@1 of every policy on every benchmark."""
    names = list(dict.fromkeys(line.single.benchmark for line in section.lines))
    policies = list(dict.fromkeys(line.single.policy for line in section.lines))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, policy in enumerate(policies):
            rows = [line.single for line in section.lines if line.single.policy == policy]
            colour, marker, _ = SERIES[i % len(SERIES)]
            places = [names.index(r.benchmark) + 0.16 * (i - (len(policies) - 1) / 2) for r in rows]
            _points(axes, places, rows, colour, marker, policy)
        axes.set_xticks(range(len(names)), names, rotation=15 if len(names) > 3 else 0)
        axes.set_ylabel(f"{section.outcomes[0]} in one answer, %")
        axes.set_ylim(-4, 104)  # room for markers at both ends
        legend_above(figure, axes)

    return render("safety_by_policy", f"Safety of each policy, single answers. {section.title}.", (8, 3.6), draw)


def _points(axes: Any, places: list[float], rows: list[Row], colour: str, marker: str, label: str) -> None:
    known = [(x, r) for x, r in zip(places, rows, strict=True) if r.value is not None]
    values, spread = _spread([r for _, r in known])
    axes.errorbar([x for x, _ in known], values, yerr=spread, fmt=marker, color=colour, capsize=3, label=label)


def _spread(rows: list[Row]) -> tuple[Floats, Floats]:
    """The values of rows that have one, in per cent, and how far their intervals reach below and above, ``(2, R)``."""
    values = np.array([100 * (r.value or 0.0) for r in rows])
    low = np.array([100 * (r.ci_low or 0.0) for r in rows])
    high = np.array([100 * (r.ci_high or 0.0) for r in rows])
    return values, np.maximum([values - low, high - values], 0.0)


def _majority(report: Report, section: Section) -> FigureSvg:
    """A single answer, the headline choice and the majority of N, side by side."""
    lines = section.lines
    wanted = {(line.single.policy, line.single.benchmark): i for i, line in enumerate(reversed(lines))}
    rows = [r for r in report.rows if r.subset == "all" and section.covers(r)]
    marks = (("mean", "one answer", BLUE, "o"), ("majority", "majority of N", ORANGE, "s"))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        series = [([r for r in rows if r.selector == name], label, c, m) for name, label, c, m in marks]
        series.append(([r for r in rows if is_headline(r, report.headline)], "chosen", GREEN, "D"))
        shift = {label: 0.22 * (1 - i) for i, (_, label, _, _) in enumerate(series)}
        for found, label, colour, marker in series:
            known = [r for r in found if r.value is not None]
            y = [wanted[r.policy, r.benchmark] + shift[label] for r in known]
            values, spread = _spread(known)
            axes.errorbar(values, y, xerr=spread, fmt=marker, color=colour, capsize=2, label=label, alpha=0.85)
        axes.set_yticks(list(wanted.values()), [f"{policy}, {name}" for policy, name in wanted])
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{section.outcomes[0]}, %")
        legend_above(figure, axes)

    caption = (
        f"A single answer, the majority of {report.n_samples}, and the chosen one ({report.headline.words}). A "
        f"majority far below the single answer means uncertain, not incapable."
    )
    return render("single_and_majority", caption, (8, 0.5 * len(wanted) + 1.4), draw)


def _lengths(report: Report) -> FigureSvg:
    """Response lengths by policy and benchmark."""
    cells = report.run.cells
    names = list(dict.fromkeys(cell.benchmark for cell in cells))
    policies = list(dict.fromkeys(cell.policy for cell in cells))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, policy in enumerate(policies):
            own = [cell for cell in cells if cell.policy == policy]
            places = [names.index(c.benchmark) + 0.22 * (i - (len(policies) - 1) / 2) for c in own]
            colour, marker, _ = SERIES[i % len(SERIES)]
            box = axes.boxplot(
                [cell.lengths_PN.ravel() for cell in own], positions=places, widths=0.18, showfliers=False
            )
            for part in ("boxes", "whiskers", "caps", "medians"):
                for artist in box[part]:
                    artist.set_color(colour)
            medians = [float(np.median(cell.lengths_PN)) for cell in own]
            axes.plot(places, medians, marker, color=colour, label=policy)
        axes.set_xticks(range(len(names)), names, rotation=15 if len(names) > 3 else 0)
        axes.set_ylabel("response tokens")
        axes.set_ylim(bottom=0)
        legend_above(figure, axes)

    caption = "Response length by policy: median, quartiles, whiskers to 1.5 times the quartile range."
    return render("length_by_policy", caption, (8, 3.6), draw)
