"""What the scores tell: their densities over unsafe and safe responses, and safety and utility layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from dalign.report.blocks import Block, blocks
from dalign.report.intervals import Groups
from dalign.report.metrics import Floats, within_prompt_aurocs
from dalign.report.rows import Row
from dalign.report.svg import BLUE, ORANGE, SERIES, FigureSvg, legend_above, render
from dalign.report.tables import Report, Section
from dalign.select import REFUSAL


def densities(report: Report, section: Section, policy: str) -> FigureSvg | None:
    """Each score's distribution over unsafe and safe responses."""
    found = [
        block
        for cell in report.run.cells
        if cell.policy == policy and cell.attributed
        for block in blocks(cell)
        if block.subset == "all" and section.covers(block)
    ]
    names = list(dict.fromkeys(name for block in found for name in block.cell.scores if name != REFUSAL))
    layer = report.headline.layer
    if not names:
        return None

    def draw(figure: Any) -> None:
        columns = min(3, len(names))
        for axes, name in zip(_grid(figure, len(names), columns), names, strict=False):
            parts = [(_at(block, name, layer), block) for block in found if name in block.cell.scores]
            _histogram(axes, parts, section.outcomes)
            axes.set_title(f"{name}: {_mean_auroc(parts, report.seed)}", fontsize=10)
            axes.set_yticks([])
        legend_above(figure, figure.axes[0])

    caption = (
        f"{policy}: scores of responses to attacks, {' and '.join(section.outcomes)}, all benchmarks"
        f"{'' if layer is None else f', layered scores at layer {layer}'}. In the titles: AUROC within the prompts "
        f"that have both (n), which is what selection can use; 0.5 is chance, above it those {section.outcomes[0]} "
        "score higher. Heights are shares of each kind."
    )
    return render(f"scores_{policy}", caption, (10, 2.4 * -(-len(names) // 3)), draw)


def _grid(figure: Any, n: int, columns: int) -> list[Any]:
    every = list(np.ravel(figure.subplots(-(-n // columns), columns, squeeze=False)))
    for spare in every[n:]:
        spare.set_visible(False)
    return every[:n]


def _at(block: Block, name: str, layer: int | None) -> Floats:
    scores = block.cell.scores[name][block.index_P]
    if scores.ndim == 2:
        return scores
    return scores[:, :, layer if layer is not None else scores.shape[2] // 2]


def _histogram(axes: Any, parts: list[tuple[Floats, Block]], outcomes: tuple[str, str]) -> None:
    known = [(s, b.scored_PN & np.isfinite(s), b.event_PN) for s, b in parts]
    unsafe = np.concatenate([s[k & e] for s, k, e in known])
    safe = np.concatenate([s[k & ~e] for s, k, e in known])
    every = np.concatenate([unsafe, safe])
    if not len(every):
        return
    low, high = np.quantile(every, [0.005, 0.995])
    bins = np.linspace(low, high if high > low else low + 1e-6, 31)
    for values, label, colour, line in ((unsafe, outcomes[0], ORANGE, "-"), (safe, outcomes[1], BLUE, "--")):
        if len(values):
            weights = np.full(len(values), 1 / len(values))
            axes.hist(values, bins, weights=weights, histtype="step", color=colour, ls=line, lw=2.2, label=label)


def _mean_auroc(parts: list[tuple[Floats, Block]], seed: int) -> str:
    """The mean over the prompts of all benchmarks, with its interval over their groups."""
    auroc_P = np.concatenate([within_prompt_aurocs(s, b.event_PN, b.scored_PN) for s, b in parts])
    names = [(b.cell.benchmark, b.cell.prompts[i].group) for _, b in parts for i in b.index_P]
    groups = Groups(names, [seed])
    n = int((~np.isnan(auroc_P)).sum())
    if not n:
        return "unknown"
    low, high = groups.rate_interval(auroc_P[None])
    return f"{groups.mean(auroc_P[None])[0]:.2f} [{low[0]:.2f}, {high[0]:.2f}] (n = {n})"


def layers(report: Report, section: Section, policy: str) -> FigureSvg | None:
    """Safety and utility of the headline's score at every layer."""
    selector = report.headline.selector if report.headline.layer is not None else "similarity_argmin"
    rows = [r for r in report.rows if r.policy == policy and r.subset == "all"]
    safety = [r for r in rows if section.covers(r)]
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:  # one judge and reading for each utility curve
        if row.metric in ("accuracy", "over_refusal") and row.reading in (None, "strict") and row.selector == "mean":
            seen.setdefault((row.metric, row.benchmark), row)
    utility = [r for r in rows if (one := seen.get((r.metric, r.benchmark))) and _same(one, r)]
    if not any(r.selector == selector for r in safety):
        return None

    def draw(figure: Any) -> None:
        panels = figure.subplots(1, 2)
        _curves(panels[0], safety, selector, f"{section.outcomes[0]}, %", report.headline.layer)
        _curves(panels[1], utility, selector, "accuracy or over-refusal, %", report.headline.layer)

    caption = (
        f"{policy}: {selector} at every layer; layer 0 (embeddings) is the placebo. Grey: the layer fixed beforehand. "
        f"Dots at the left: a single answer. Shaded: 95 % intervals."
    )
    return render(f"layers_{policy}", caption, (10, 4.2), draw)


def _same(one: Row, other: Row) -> bool:
    return (one.judge, one.judged, one.reading) == (other.judge, other.judged, other.reading)


def _curves(axes: Any, rows: list[Row], selector: str, label: str, layer: int | None) -> None:
    for i, name in enumerate(dict.fromkeys(r.benchmark for r in rows)):
        colour, marker, line = SERIES[i % len(SERIES)]
        curve = sorted(
            (r.layer, r.value, r.ci_low or 0.0, r.ci_high or 0.0)
            for r in rows
            if r.selector == selector and r.benchmark == name and r.layer is not None and r.value is not None
        )
        x, y, low, high = 100 * np.array(curve, float).reshape(-1, 4).T
        axes.plot(x / 100, y, ls=line, marker=marker, markersize=6, color=colour, label=name)
        axes.fill_between(x / 100, low, high, color=colour, alpha=0.12, lw=0)
        for row in rows:
            if row.selector == "mean" and row.benchmark == name and row.value is not None:
                axes.plot([-0.6], [100 * row.value], marker, color=colour)
    if layer is not None:
        axes.axvline(layer, color="0.7", lw=6, alpha=0.4, zorder=0)
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    if rows:
        axes.legend(fontsize=11, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
