"""Figures as inline SVG: colour-blind-safe, text kept as text, without prolog, style sheet or address."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)  # Okabe & Ito
# Colour, marker and dashes say the same, so that no two series differ by colour alone.
SERIES = (
    (BLUE, "o", "-"),
    (ORANGE, "s", "--"),
    (GREEN, "^", "-."),
    (PINK, "D", ":"),
    (BLACK, "v", (0, (8, 2))),
    (SKY, "P", (0, (3, 1, 1, 1, 1, 1))),
    (YELLOW, "X", (0, (1, 3))),
)
STYLE = {
    "font.size": 12,
    "lines.linewidth": 2.0,
    "lines.markersize": 8,
    "hatch.linewidth": 0.8,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class FigureSvg:
    """An inline SVG with its caption."""

    name: str
    caption: str
    svg: str


def render(name: str, caption: str, size: tuple[float, float], draw: Callable[[Any], None]) -> FigureSvg:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return FigureSvg(name, caption, inline(stream.getvalue(), name))


def legend_above(figure: Any, axes: Any) -> None:
    """The legend of ``axes`` above everything, where it hides nothing, four to a line."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(handles), 4))


def inline(svg: str, label: str) -> str:
    """The ``svg`` element alone, without prolog, metadata, style sheet or namespace addresses, as HTML takes it."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    return body.replace("<svg", f'<svg role="img" aria-label="{label.replace("_", " ")}"', 1)
