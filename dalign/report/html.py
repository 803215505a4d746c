"""One self-contained index.html: what a run says, in tables, figures and a browser of its samples; all text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from dalign.report.appendix import caveat_parts, made_parts, published_parts
from dalign.report.auroc_tables import auroc_tables
from dalign.report.document import Cell, document, figure, paragraphs, table
from dalign.report.further import Chapter, further
from dalign.report.rows import Row
from dalign.report.samples import Embedded, packed
from dalign.report.screen import explanation, verdict
from dalign.report.svg import FigureSvg
from dalign.report.tables import ABOUT_SAFETY, Line, Report, Section, percent, sections, with_interval

CHAPTERS = {
    "safety": "Safety",
    "utility": "Utility and over-refusal",
    "figures": "Figures",
    "selectors": "Every selector",
    "best_of_k": "Best of k",
    "cost": "At like cost",
    "equal_length": "At equal length",
    "permutation": "Permutation within prompts",
    "probes": "Probes",
    "calibrated": "Calibrated selectors",
    "abstain": "Abstaining",
    "rl": "What RL changed",
    "protocols": "Protocols",
    "samples": "Samples",
    "caveats": "Caveats",
    "paper": "Beside the paper",
    "made": "How this was made",
}


def page(report: Report, figures: Sequence[FigureSvg], samples: Embedded) -> str:
    """The whole page."""
    name = str(report.run.cells[0].config["run"])
    shown = sections(report)
    others = further(report)
    parts = [
        f"<h1>Run {escape(name)}</h1>",
        f'<p class="headline">{escape(verdict(report))}</p>',
        *paragraphs(explanation(report).split("\n")[0]),
        _contents(others),
        _heading("safety"),
        *(_summary(section) for section in shown if section.metric in ABOUT_SAFETY),
        _heading("utility"),
        *(_summary(section) for section in shown if section.metric not in ABOUT_SAFETY),
        _heading("figures"),
        *map(figure, figures),
        _heading("selectors"),
        *_selectors(report, shown),
        *(auroc.html("h3") for auroc in auroc_tables(report)),
        _others(report, shown),
        *(part for key, chapter in others.items() for part in (_heading(key), *chapter.html())),
        _heading("samples"),
        *_samples(samples, name),
        _heading("caveats"),
        *caveat_parts(report),
        _heading("paper"),
        *published_parts(),
        _heading("made"),
        *made_parts(report, name),
    ]
    return document(name, parts)


def _contents(others: Mapping[str, Chapter]) -> str:
    always = ("safety", "utility", "figures", "selectors", "samples", "caveats", "paper", "made")
    shown = {key: title for key, title in CHAPTERS.items() if key in always or key in others}
    return "<nav>" + " ".join(f'<a href="#{key}">{escape(title)}</a>' for key, title in shown.items()) + "</nav>"


def _heading(key: str) -> str:
    return f'<h2 id="{key}">{escape(CHAPTERS[key])}</h2>'


def _summary(section: Section) -> str:
    head = ["policy", "benchmark", "one answer", "chosen", "change", "relative", "p adj.", "finished", "unscored"]
    head += ["bounds", "n", "groups"]
    return f"<h3>{escape(section.title)}</h3>" + table(head, [_line(line) for line in section.lines], text=2)


def _line(line: Line) -> list[Cell]:
    single, row = line.single, line.chosen or line.single
    cells: list[Cell] = [single.policy, single.benchmark, with_interval(single.value, single.ci_low, single.ci_high)]
    if line.chosen:
        change = with_interval(row.difference, row.difference_ci_low, row.difference_ci_high, signed=True)
        bounds = row.relative_change_ci_low, row.relative_change_ci_high
        p = "–" if row.p_adjusted is None else f"{row.p_adjusted:.3f}" if row.p_adjusted >= 0.001 else "< 0.001"
        cells += [with_interval(row.value, row.ci_low, row.ci_high), (change, row.claim)]
        cells += [with_interval(row.relative_change, *bounds, signed=True), p]
    else:
        cells += ["–"] * 4
    unscored = f"{percent(row.value_if_unscored_safe)} / {percent(row.value_if_unscored_unsafe)}"
    counts = (str(row.n_prompts), str(row.n_groups))
    return [*cells, percent(row.finished_rate), percent(row.n_unscored / row.n_prompts), unscored, *counts]


def _selectors(report: Report, shown: Sequence[Section]) -> list[str]:
    """A table a policy with scores: every selector, at the fixed layer where it has layers, by the first judge."""
    out = []
    first = {s.metric: s for s in reversed(shown)}.values()
    for policy in dict.fromkeys(line.single.policy for s in shown for line in s.lines if line.chosen):
        rows = [r for r in report.rows if r.policy == policy and r.subset == "all" and r.layer_chosen_on != "scan"]
        rows = [r for r in rows if any(s.covers(r) and s.reading == r.reading for s in first)]
        columns = list(dict.fromkeys((r.benchmark, r.metric) for r in rows))
        names = list(dict.fromkeys((r.selector, "" if r.peeks else r.layer) for r in rows))
        at = {(r.selector, "" if r.peeks else r.layer, r.benchmark, r.metric): r for r in rows}
        body = [_selector_row([at.get((*name, *column)) for column in columns]) for name in names]
        head = ("selector", "layer", *(f"{b}, {m.replace('_', ' ')}" for b, m in columns))
        peeks = [any(at[k].peeks for k in at if k[:2] == name) for name in names]
        said = "per cent, and change against one answer in points; judged as in the first table of each kind above"
        out.append(f"<h3>{escape(policy)}: {said}; bold: a gain or a loss</h3>" + table(head, body, 1, peeks))
    return out


def _selector_row(rows: Sequence[Row | None]) -> list[Cell]:
    known = [r for r in rows if r]
    layers = {r.layer for r in known}
    layer = "–" if layers == {None} else " / ".join(str(x) for x in sorted(x for x in layers if x is not None))
    cells: list[Cell] = [known[0].selector, layer]
    for r in rows:
        if r is None:
            cells.append("–")
            continue
        change = with_interval(r.difference, r.difference_ci_low, r.difference_ci_high, signed=True)
        cells.append((f"{percent(r.value)}  {change}", r.claim))
    return cells


def _others(report: Report, shown: Sequence[Section]) -> str:
    """The sections of other parts and readings, folded."""
    rest = [s for s in sections(report, everything=True) if s not in shown]
    if not rest:
        return ""
    return "<details><summary>Other parts judged and readings</summary>" + "".join(map(_summary, rest)) + "</details>"


def _samples(samples: Embedded, name: str) -> list[str]:
    """What is embedded, in words, and the data that the page's script reads, in elements that are no scripts."""
    if not samples.n:
        return paragraphs(f"None of {samples.total} samples is in this page; {_all_of_them(samples, name)}")
    said = [f"{samples.n} of {samples.total} samples are in this page."]
    if samples.n < samples.total:
        said.append(
            "They are the answers to as many prompts of each benchmark, evenly spaced in its file; "
            + _all_of_them(samples, name)
        )
    if samples.index["texts"]:
        said.append(
            "Prompts and answers may be harmful and stay hidden until you ask for them; they are in this file all the "
            "same: before you pass it on, make one without by report.texts=false."
        )
    else:
        said.append("Their texts were left out (report.texts=false).")
    data = [_data("index", samples.index), *(_data(str(i), chunk) for i, chunk in enumerate(samples.chunks))]
    without = "The browser of samples needs this page's script, which has not run here."
    return [*paragraphs(*said), f'<div id="browser"><p>{without}</p></div>', *data]


def _all_of_them(samples: Embedded, name: str) -> str:
    return f"all of them: dalign report {name} report.samples={samples.total}"


def _data(name: str, value: object) -> str:
    return f'<script type="application/gzip" data-samples="{name}">{packed(value)}</script>'
