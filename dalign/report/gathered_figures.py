"""Many configurations as figures: utility by student and teacher, rates by layer, response lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dalign.report.configurations import Entry
from dalign.report.gathered_tables import pool, students_utility, unique
from dalign.report.metrics import Floats
from dalign.report.run_facts import LayerRate, Lengths
from dalign.report.svg import SERIES, FigureSvg, legend_above, render

COLOURS = "cividis"  # told apart by the colour-blind, and in grey


def utility_maps(entries: Sequence[Entry]) -> Iterator[FigureSvg]:
    """A heat map a source and stage: right answers in one, students by teachers, a panel a benchmark; runs pooled."""
    single = students_utility(entries)
    for source, stage in unique((pool(e), e.stage) for e in single):
        own = [e for e in single if (pool(e), e.stage) == (source, stage)]
        benchmarks, students = unique(e.benchmark for e in own), unique(e.student for e in own)
        teachers = unique(e.teacher for e in own)

        def draw(
            figure: Any,
            own: list[Entry] = own,
            benchmarks: list[str] = benchmarks,
            students: list[str] = students,
            teachers: list[str] = teachers,
        ) -> None:
            panels = figure.subplots(1, len(benchmarks), squeeze=False, sharey=True)[0]
            for axes, benchmark in zip(panels, benchmarks, strict=True):
                _map(axes, _grid([e for e in own if e.benchmark == benchmark], students, teachers))
                axes.set_title(benchmark)
                axes.set_xticks(np.arange(len(teachers)) + 0.5, teachers, rotation=40, ha="right")
            panels[0].set_yticks(np.arange(len(students)) + 0.5, students)
            panels[0].invert_yaxis()

        caption = (
            f"Utility after {stage} ({source}): right answers in one, per cent, by student (down) and teacher, "
            "the mean where several runs share a place. An empty place was not run."
        )
        size = (2.2 + len(benchmarks) * (1 + 0.62 * len(teachers)), 2.6 + 0.4 * len(students))
        yield render(f"utility_{source}_{stage}".replace(" ", "_"), caption, size, draw)


def _grid(entries: Sequence[Entry], students: Sequence[str], teachers: Sequence[str]) -> Floats:
    """``(students, teachers)`` mean rates in per cent, NaN where there is none."""
    grid = np.full((len(students), len(teachers)), np.nan)
    for i, student in enumerate(students):
        for j, teacher in enumerate(teachers):
            found = [e.rate for e in entries if (e.student, e.teacher) == (student, teacher)]
            grid[i, j] = 100 * np.mean(found) if found else np.nan
    return grid


def _map(axes: Any, grid: Floats) -> None:
    axes.pcolormesh(np.ma.masked_invalid(grid), cmap=COLOURS, vmin=0, vmax=100, edgecolors="white", linewidth=1)
    axes.grid(visible=False)
    for (i, j), value in np.ndenumerate(grid):
        if np.isfinite(value):
            colour = "white" if value < 55 else "black"
            axes.text(j + 0.5, i + 0.5, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=11)


def layer_curves(layers: Sequence[LayerRate]) -> Iterator[FigureSvg]:
    """A figure a selector: a panel a benchmark, a curve a configuration, over the share of the depth."""
    for selector in unique(one.selector for one in layers):
        own = [one for one in layers if one.selector == selector]
        benchmarks, who = unique(one.benchmark for one in own), unique(one.configuration for one in own)

        def draw(
            figure: Any,
            own: list[LayerRate] = own,
            benchmarks: list[str] = benchmarks,
            who: list[tuple[str, str, str, str]] = who,
        ) -> None:
            columns = min(3, len(benchmarks))
            panels = np.ravel(figure.subplots(-(-len(benchmarks) // columns), columns, squeeze=False))
            for axes in panels[len(benchmarks) :]:
                axes.set_visible(False)
            for axes, benchmark in zip(panels, benchmarks, strict=False):
                _curves(axes, [one for one in own if one.benchmark == benchmark], who)
                axes.set_title(benchmark)
            legend_above(figure, panels[0])

        caption = (
            f"{selector} at every layer, per cent: unsafe answers (or answers that do not refuse), right ones on "
            "utility benchmarks. 0 is the embeddings, the placebo, 1 the last layer; marked: the one fixed beforehand."
        )
        rows = -(-len(benchmarks) // 3)
        yield render(f"layers_of_runs_{selector}", caption, (11, 3.1 * rows + 0.6), draw)


def _curves(axes: Any, found: Sequence[LayerRate], who: Sequence[tuple[str, str, str, str]]) -> None:
    for i, place in enumerate(who):
        curve = sorted((o for o in found if o.configuration == place), key=lambda one: one.layer)
        x, y = [o.layer / max(o.n_layers, 1) for o in curve], [100 * o.value for o in curve]
        colour, marker, line = SERIES[i % len(SERIES)]
        axes.plot(x, y, ls=line, color=colour, label=" ".join((place[0], place[1])))
        fixed = [k for k, one in enumerate(curve) if one.fixed]
        axes.plot([x[k] for k in fixed], [y[k] for k in fixed], marker, color=colour)
    axes.set_xlabel("share of the depth")
    axes.set_ylim(-2, 102)


def length_ranges(lengths: Sequence[Lengths]) -> FigureSvg | None:
    """Median and quartiles of the response tokens, by benchmark and configuration."""
    if not lengths:
        return None
    benchmarks, who = unique(one.benchmark for one in lengths), unique(one.configuration for one in lengths)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, place in enumerate(who):
            own = [one for one in lengths if one.configuration == place]
            x = [benchmarks.index(o.benchmark) + 0.8 * ((i + 0.5) / len(who) - 0.5) for o in own]
            low, middle, high = (np.array([o.tokens[k] for o in own]) for k in range(3))
            colour, marker, _ = SERIES[i % len(SERIES)]
            spread = np.array([middle - low, high - middle])
            axes.errorbar(x, middle, yerr=spread, fmt=marker, color=colour, capsize=2, label=" ".join(place[:2]))
        axes.set_xticks(range(len(benchmarks)), benchmarks, rotation=15 if len(benchmarks) > 3 else 0)
        axes.set_ylabel("response tokens")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=10, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))

    caption = "Response lengths: medians and quartiles, by benchmark and configuration (source and stage)."
    return render("lengths_of_runs", caption, (10, 4.4), draw)
