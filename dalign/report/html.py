"""One self-contained index.html: what a run says, in tables, figures and a browser of its samples; all text escaped."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from dalign.report.caveats import caveats
from dalign.report.document import Cell, bullets, document, paragraphs, table
from dalign.report.learnt import learnt
from dalign.report.load import Cell as RunCell
from dalign.report.published import CAVEATS, COLUMNS, ROWS, SOURCE
from dalign.report.rows import Row
from dalign.report.samples import Embedded, packed
from dalign.report.screen import explanation, verdict
from dalign.report.svg import FigureSvg
from dalign.report.tables import ABOUT_SAFETY, Line, Report, Section, percent, sections, with_interval
from dalign.report.worth import CAVEAT, worth_tables
from dalign.specs.protocol import IMPORTED

CHAPTERS = {
    "safety": "Safety",
    "utility": "Utility and over-refusal",
    "figures": "Figures",
    "selectors": "Every selector",
    "learnt": "Learnt from verdicts on other prompts",
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
    parts = [
        f"<h1>Run {escape(name)}</h1>",
        f'<p class="headline">{escape(verdict(report))}</p>',
        *paragraphs(explanation(report).split("\n")[0]),
        _contents(report),
        _heading("safety"),
        *(_summary(section) for section in shown if section.metric in ABOUT_SAFETY),
        _heading("utility"),
        *(_summary(section) for section in shown if section.metric not in ABOUT_SAFETY),
        _heading("figures"),
        *(_figure(figure) for figure in figures),
        _heading("selectors"),
        *_selectors(report, shown),
        _others(report, shown),
        *_learnt(report),
        *_protocols(report),
        _heading("samples"),
        *_samples(samples, name),
        _heading("caveats"),
        bullets(caveats(report)),
        _heading("paper"),
        *_published(),
        _heading("made"),
        *_made(report, name),
    ]
    return document(name, parts)


def _contents(report: Report) -> str:
    absent = {key for key, tables in (("protocols", worth_tables(report)), ("learnt", learnt(report))) if not tables}
    shown = {key: title for key, title in CHAPTERS.items() if key not in absent}
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


def _protocols(report: Report) -> list[str]:
    """What other protocols make of the same run, where it was asked."""
    tables = worth_tables(report)
    return [_heading("protocols"), *paragraphs(CAVEAT), *(table.html("h3") for table in tables)] if tables else []


def _learnt(report: Report) -> list[str]:
    """Selectors and abstention that were fitted on verdicts, where there are any."""
    out = []
    for title, caveat, tables in learnt(report):
        out += [f"<h3>{escape(title)}</h3>", *paragraphs(caveat), *(table.html("h4") for table in tables)]
    return [_heading("learnt"), *out] if out else []


def _published() -> list[str]:
    head = ("stage", "selector", *COLUMNS)
    body: list[list[Cell]] = [[r.stage, r.printed, *(f"{v:+.1f}".replace("-", "−") for v in r.values)] for r in ROWS]
    said = (
        f"{SOURCE}: mean relative change against the first answer, per cent. DAN, WildJailbreak, StrongREJECT: drop in "
        "ASR, higher is better; GSM8K, MMLU: drop in utility, lower is better. Compare signs and order with "
        "'relative' above, where a drop is negative; not sizes."
    )
    return [*paragraphs(said, small=True), table(head, body, 2, [r.peeks for r in ROWS]), bullets(CAVEATS)]


def _made(report: Report, name: str) -> list[str]:
    cells = report.run.cells
    config, versions = cells[0].config, cells[0].versions
    commands = "\n".join([*dict.fromkeys(map(_command, cells)), f"dalign report {name}"])
    sampler = config["sampler"]
    facts = [
        f"model {config['model']['name']}, teacher {config['teacher']['name']}, seed {config['seed']}, world seed "
        f"{config['world_seed']}",
        f"{report.n_samples} samples a prompt at temperature {sampler.get('temperature')}, of at most "
        f"{sampler.get('max_new_tokens')} tokens",
        f"headline: {report.headline.words}",
        *dict.fromkeys(f"attributed to: {c.base}" for c in cells if c.base),
        "packages: " + ", ".join(f"{k} {v}" for k, v in (versions.get("packages") or {}).items() if v),
        f"code: {(versions.get('git') or {}).get('sha') or 'installed package'}"
        + (" with local changes" if (versions.get("git") or {}).get("dirty") else ""),
        "intervals: bootstrap-t over groups of prompts, Wilson where there are few events or one verdict a prompt; "
        "p-values: sign flips of whole groups; relative change: null where one answer expects fewer than 10 events",
    ]
    said = "results.json holds every row (each selector at each layer); results.csv adds safe-and-finished and AUROC."
    return [f"<pre>{escape(commands)}</pre>", bullets(facts), *paragraphs(said, small=True)]


def _command(cell: RunCell) -> str:
    """The command line that a cell was last worked on with."""
    verb, words = "train" if cell.config["stage"] else "evaluate", cell.config.get("command", ())
    if cell.protocol == IMPORTED:
        return f"dalign import {shlex.join(words)}"
    return f"python {verb}.py {shlex.join(words)}".rstrip()


def _figure(figure: FigureSvg) -> str:
    return f"<figure>{figure.svg}<figcaption>{escape(figure.caption)}</figcaption></figure>"
