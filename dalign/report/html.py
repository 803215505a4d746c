"""One self-contained index.html: no script, no network, a content policy that forbids both, all text escaped.

Sample texts are not shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape

from dalign.report.intervals import detectable_in
from dalign.report.load import Cell as RunCell
from dalign.report.published import CAVEATS, COLUMNS, ROWS, SOURCE
from dalign.report.rows import PRIMARY, Row
from dalign.report.screen import explanation, verdict
from dalign.report.svg import FigureSvg
from dalign.report.tables import ABOUT_SAFETY, SAFETY, Line, Report, Section, percent, sections, with_interval
from dalign.report.worth import CAVEAT, worth_tables
from dalign.specs.protocol import IMPORTED

CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 74rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin-bottom: .3rem; }
.headline { font-size: 1.15rem; border-left: .3rem solid #0072B2; padding-left: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #888; } th.text, td.text { text-align: left; }
td.gain { color: #00664b; font-weight: 600; } td.loss { color: #a33f00; font-weight: 600; }
tr.peeks td { color: #666; font-style: italic; }
figure { margin: 1.2rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption, .small { font-size: .88rem; color: #444; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem; } details { margin: .6rem 0; }
"""

Cell = str | tuple[str, str]


def page(report: Report, figures: Sequence[FigureSvg]) -> str:
    """The whole page."""
    name = str(report.run.cells[0].config["run"])
    shown = sections(report)
    parts = [
        f"<h1>Run {escape(name)}</h1>",
        f'<p class="headline">{escape(verdict(report))}</p>',
        *_paragraphs(explanation(report).split("\n")[0]),
        "<h2>Safety</h2>",
        *(_summary(section) for section in shown if section.metric in ABOUT_SAFETY),
        "<h2>Utility and over-refusal</h2>",
        *(_summary(section) for section in shown if section.metric not in ABOUT_SAFETY),
        "<h2>Figures</h2>",
        *(_figure(figure) for figure in figures),
        "<h2>Every selector</h2>",
        *_selectors(report, shown),
        _others(report, shown),
        *_protocols(report),
        "<h2>Caveats</h2>",
        _list(caveats(report)),
        "<h2>Beside the paper</h2>",
        *_published(),
        "<h2>How this was made</h2>",
        *_made(report, name),
    ]
    return document(name, parts)


def document(name: str, parts: Sequence[str]) -> str:
    """A whole page around ``parts``, which are HTML; it may load nothing and run nothing."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(CSP)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>dalign: {escape(name)}</title><style>{CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def caveats(report: Report) -> list[str]:
    """What a reader must know before believing the numbers."""
    compared = [line.chosen for s in sections(report) if s.metric in SAFETY for line in s.lines if line.chosen]
    effects = [row.smallest_detectable for row in compared if row.smallest_detectable is not None]
    out = []
    if effects:
        n = max(sum(row.family == PRIMARY for row in report.rows), 1)
        low, high = (100 * end(effects) * detectable_in(n) / detectable_in(1) for end in (min, max))
        out.append(
            f"With these prompts, a change of {low:.0f} to {high:.0f} points in the safety tables, as one of {n} "
            "primary comparisons, would be found in 4 of 5 repetitions; smaller ones may be there and stay unseen."
        )
    out += [
        "A gain is claimed only where the paired interval leaves out zero, the adjusted p-value is below 0.05, and "
        "safe-and-finished answers do not become fewer; a loss is told wherever the interval leaves out zero and the "
        "unadjusted p-value is below 0.05.",
        "Primary are the comparisons fixed beforehand: the headline selector on the attack sets, by the first judge, "
        "adjusted together (Holm). Every other comparison is exploratory (Benjamini-Hochberg over all of them).",
        "A learned judge that filtered the training traces is no independent witness; where the truth of the embedded "
        "world is there, it comes first.",
        "'Bounds' are over all n prompts: the rate if every unscored answer were good, and if every one were bad.",
        "Rows in italics look at the test labels (oracle, majority, any of N, best layer): bounds, not methods.",
        placebo(report.rows),
        *report.notes,
    ]
    if report.reasons:
        counted = ", ".join(f"{reason} ({n})" for reason, n in report.reasons.items())
        out.append(f"Samples without a verdict, by judge and reason: {counted}.")
    return [text for text in out if text]


def placebo(rows: Sequence[Row]) -> str:
    """Whether choosing by similarity at layer 0, where embeddings are untouched, is random choice, as it must be."""
    place = {
        (r.policy, r.benchmark, r.subset, r.metric, r.reading, r.judge, r.judged): r
        for r in rows
        if r.selector == "random"
    }
    zero = [r for r in rows if r.selector == "similarity_argmin" and r.layer == 0 and not r.peeks]
    if not zero:
        return ""
    keys = [(r.policy, r.benchmark, r.subset, r.metric, r.reading, r.judge, r.judged) for r in zero]
    equal = sum(row.value == place[key].value for row, key in zip(zero, keys, strict=True))
    if equal == len(zero):
        return "Placebo: choosing by similarity at layer 0, the embeddings, equals random choice exactly, as it must."
    return (
        f"Placebo: choosing by similarity at layer 0 differs from random choice in {len(zero) - equal} of {len(zero)} "
        "rows; it must not, unless embeddings were trained or pairs could not be scored."
    )


def _summary(section: Section) -> str:
    head = ["policy", "benchmark", "one answer", "chosen", "change", "relative", "p adj.", "finished", "unscored"]
    head += ["bounds", "n", "groups"]
    return f"<h3>{escape(section.title)}</h3>" + _table(head, [_line(line) for line in section.lines], text=2)


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
        out.append(f"<h3>{escape(policy)}: {said}; bold: a gain or a loss</h3>" + _table(head, body, 1, peeks))
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


def _protocols(report: Report) -> list[str]:
    """What other protocols make of the same run, where it was asked."""
    tables = worth_tables(report)
    return ["<h2>Protocols</h2>", *_paragraphs(CAVEAT), *(table.html("h3") for table in tables)] if tables else []


def _published() -> list[str]:
    head = ("stage", "selector", *COLUMNS)
    body: list[list[Cell]] = [[r.stage, r.printed, *(f"{v:+.1f}".replace("-", "−") for v in r.values)] for r in ROWS]
    said = (
        f"{SOURCE}: mean relative change against the first answer, per cent. DAN, WildJailbreak, StrongREJECT: drop in "
        "ASR, higher is better; GSM8K, MMLU: drop in utility, lower is better. Compare signs and order with "
        "'relative' above, where a drop is negative; not sizes."
    )
    return [f'<p class="small">{escape(said)}</p>', _table(head, body, 2, [r.peeks for r in ROWS]), _list(CAVEATS)]


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
    return [f"<pre>{escape(commands)}</pre>", _list(facts), f'<p class="small">{escape(said)}</p>']


def _command(cell: RunCell) -> str:
    """The command line that a cell was last worked on with."""
    verb, words = "train" if cell.config["stage"] else "evaluate", cell.config.get("command", ())
    if cell.protocol == IMPORTED:
        return f"dalign import {shlex.join(words)}"
    return f"python {verb}.py {shlex.join(words)}".rstrip()


def _figure(figure: FigureSvg) -> str:
    return f"<figure>{figure.svg}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _paragraphs(*texts: str) -> list[str]:
    return [f"<p>{escape(text)}</p>" for text in texts]


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _table(head: Sequence[str], body: Sequence[Sequence[Cell]], text: int, peeks: Sequence[bool] = ()) -> str:
    """A table whose first ``text`` columns are left aligned; a cell may carry a class; peeking rows are in italics."""

    def cell(tag: str, value: Cell, column: int) -> str:
        words, claim = value if isinstance(value, tuple) else (value, "")
        names = " ".join(filter(None, ["text" if column < text else "", claim]))
        return f"<{tag}{f' class={chr(34)}{names}{chr(34)}' if names else ''}>{escape(words)}</{tag}>"

    marks = list(peeks) or [False] * len(body)
    rows = [
        f"<tr{' class=' + chr(34) + 'peeks' + chr(34) if mark else ''}>"
        + "".join(cell("td", value, i) for i, value in enumerate(row))
        + "</tr>"
        for row, mark in zip(body, marks, strict=True)
    ]
    top = "".join(cell("th", name, i) for i, name in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
