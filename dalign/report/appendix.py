"""The last chapters of a run's page: what to know before believing it, the paper's numbers, and how it was made."""

from __future__ import annotations

import shlex
from html import escape

from dalign.report.caveats import caveats
from dalign.report.control import control_table
from dalign.report.document import Cell, bullets, paragraphs, table
from dalign.report.load import Cell as RunCell
from dalign.report.published import CAVEATS, COLUMNS, ROWS, SOURCE
from dalign.report.tables import Report
from dalign.specs.protocol import IMPORTED


def caveat_parts(report: Report) -> list[str]:
    """The caveats, and whose control tokens the texts spell, where any do."""
    control = control_table(report.run.cells)
    return [bullets(caveats(report)), *([control.html("h3")] if control.rows else [])]


def published_parts() -> list[str]:
    """The paper's headline tables."""
    head = ("stage", "selector", *COLUMNS)
    body: list[list[Cell]] = [[r.stage, r.printed, *(f"{v:+.1f}".replace("-", "−") for v in r.values)] for r in ROWS]
    said = (
        f"{SOURCE}: mean relative change against the first answer, per cent. DAN, WildJailbreak, StrongREJECT: drop in "
        "ASR, higher is better; GSM8K, MMLU: drop in utility, lower is better. Compare signs and order with "
        "'relative' above, where a drop is negative; not sizes."
    )
    return [*paragraphs(said, small=True), table(head, body, 2, [r.peeks for r in ROWS]), bullets(CAVEATS)]


def made_parts(report: Report, name: str) -> list[str]:
    """The commands and the facts behind the numbers."""
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
        "intervals: bootstrap-t over groups of prompts, Wilson where there are few events or one verdict a prompt, "
        "Newcombe's hybrid with Jeffreys' bounds for a change where few rise or few fall; "
        "p-values: sign flips of whole groups; relative change: null where one answer expects fewer than 10 events",
    ]
    said = (
        "results.json holds every row (each selector at each layer, and at its shown layer for each k below N); "
        "results.csv adds safe-and-finished, AUROC, tokens, operations and permutation p-values."
    )
    return [f"<pre>{escape(commands)}</pre>", bullets(facts), *paragraphs(said, small=True)]


def _command(cell: RunCell) -> str:
    """The command line that a cell was last worked on with."""
    verb, words = "train" if cell.config["stage"] else "evaluate", cell.config.get("command", ())
    if cell.protocol == IMPORTED:
        return f"dalign import {shlex.join(words)}"
    return f"python {verb}.py {shlex.join(words)}".rstrip()
