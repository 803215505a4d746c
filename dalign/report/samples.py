"""What the page's browser of samples reads: an index to filter by, and the texts in chunks that are unpacked when asked
for. Whole prompts, evenly over every benchmark where not all may be embedded; the counts say so.
"""

from __future__ import annotations

import base64
import gzip
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dalign.report.blocks import judge_kind
from dalign.report.candidates import Candidate, candidates
from dalign.report.judged import Judged
from dalign.report.load import Cell
from dalign.report.metrics import Floats
from dalign.report.tables import PART_ORDER, Report
from dalign.select import band_name
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

CHUNK = 1 << 20  # characters of text, before they are packed
# An outcome is one letter a sample, so that those of a prompt are one short string.
OUTCOMES = {"u": "unsafe", "s": "safe", "r": "refused", "c": "complied", "+": "right", "-": "wrong", "?": "unscored"}
NOT_ASKED = "."
NO_CHOICE = ("mean", "random")  # these weigh all samples alike


@dataclass(frozen=True)
class Embedded:
    """The samples of a page, as JSON types. ``n`` of the run's ``total`` samples are in it."""

    index: dict[str, Any]
    chunks: list[list[dict[str, Any]]]
    n: int
    total: int


def embed(report: Report, headline: SelectorSpec, asked: ReportSpec) -> Embedded:
    """The samples of a report's run, at most ``asked.samples`` of them."""
    cells = report.run.cells
    at_most = _prompts_a_cell(cells, asked.samples)
    chunks: list[list[dict[str, Any]]] = []
    shown = [_cell(cell, headline, at_most, asked.texts, chunks) for cell in cells]
    n = sum(len(entry["prompts"]) * entry["n"] for entry in shown)
    selector = {"name": report.headline.selector, "layer": report.headline.layer}
    index = {"texts": asked.texts, "headline": selector, "outcomes": OUTCOMES, "cells": shown}
    return Embedded(index, chunks, n, sum(cell.lengths_PN.size for cell in cells))


def packed(value: Any) -> str:
    """JSON, gzipped, as base64: the same bytes for the same value, and none that HTML could take for a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def _prompts_a_cell(cells: Sequence[Cell], limit: int) -> int:
    """The largest number of prompts a cell that keeps all cells together within ``limit`` samples."""

    def cost(most: int) -> int:
        return sum(min(most, len(c.prompts)) * c.lengths_PN.shape[1] for c in cells)

    return bisect_right(range(max(len(c.prompts) for c in cells) + 1), limit, key=cost) - 1


def _cell(
    cell: Cell, headline: SelectorSpec, at_most: int, texts: bool, chunks: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """The index of a cell; what its prompts' pages need is added to ``chunks``."""
    n_prompts, table = len(cell.prompts), candidates(cell, headline)
    taken = [i * n_prompts // at_most for i in range(at_most)] if at_most < n_prompts else list(range(n_prompts))
    rows = [(i, row) for i, row in enumerate(table.rows) if _is_shown(row)]
    scores = list(dict.fromkeys((row.score, row.layer) for _, row in rows if row.score is not None))
    opinions = list(_opinions(cell))
    pages = [_page(cell, p, scores, opinions, texts) for p in taken]
    return {
        "policy": cell.policy,
        "benchmark": cell.benchmark,
        "n": cell.lengths_PN.shape[1],
        "scores": [_at_layer(*score) for score in scores],
        "verdicts": [{"name": o.name, "part": o.judged.part, "judge": o.judged.judge} for o in opinions],
        "outcomes": [["".join(o.letter_PN[p]) for o in opinions] for p in taken],
        "selectors": [{"name": _at_layer(row.selector, row.layer), "headline": _is(headline, row)} for _, row in rows],
        "chosen": [[np.flatnonzero(table.weights_RPN[i, p]).tolist() for i, _ in rows] for p in taken],
        "prompts": [_about(cell, p) for p in taken],
        "at": list(_places(pages, chunks)),
    }


def _about(cell: Cell, p: int) -> dict[str, Any]:
    prompt = cell.prompts[p]
    tags = [prompt.subset] * bool(prompt.subset) + list(prompt.categories)
    return {"id": prompt.id, "row": prompt.row, "kind": prompt.kind, "group": prompt.group, "tags": tags}


def _page(
    cell: Cell, p: int, scores: Sequence[tuple[str, int | None]], opinions: Sequence[_Opinion], texts: bool
) -> dict[str, Any]:
    """What the page of one prompt shows beside the index: a list entry a sample, scores in the order of the index."""
    responses = cell.responses[p]
    page: dict[str, Any] = {
        "finish": [r.finish_reason if r.closed else f"{r.finish_reason}, reasoning not closed" for r in responses],
        "tokens": cell.lengths_PN[p].tolist(),
        "scores": [[_number(_values(cell, *score)[p, j]) for score in scores] for j in range(len(responses))],
        "details": [
            {str(i): found for i, o in enumerate(opinions) if (found := o.details(p, j))} for j in range(len(responses))
        ],
    }
    if texts:
        prompt = cell.prompts[p]
        said = [{"reasoning": r.reasoning, "answer": r.answer} for r in responses]
        page |= {"prompt": prompt.text, "reference": prompt.reference, "answers": said}
    return page


def _places(pages: Sequence[dict[str, Any]], chunks: list[list[dict[str, Any]]]) -> Iterator[tuple[int, int]]:
    """Puts a cell's pages into chunks of its own, and tells where each lies: chunk and place in it."""
    room = 0
    for page in pages:
        if room <= 0:
            chunks.append([])
            room = CHUNK
        chunks[-1].append(page)
        room -= len(page.get("prompt", "")) + sum(
            len(a["reasoning"]) + len(a["answer"]) for a in page.get("answers", ())
        )
        room -= 40 * sum(map(len, page["scores"]))
        yield len(chunks) - 1, len(chunks[-1]) - 1


@dataclass(frozen=True)
class _Opinion:
    """A judge's outcomes on one part, under one reading where it has several; ``letter_PN`` as in ``OUTCOMES``."""

    name: str
    judged: Judged
    letter_PN: Any

    def details(self, p: int, j: int) -> dict[str, Any]:
        """What the judge said of a sample beside its outcome."""
        judged = self.judged
        told = {"p": _number(judged.p_unsafe_PN[p, j]), "score": _number(judged.score_PN[p, j])}
        words = {"category": str(judged.category_PN[p, j]), "reason": str(judged.reason_PN[p, j])}
        return {key: value for key, value in {**told, **words}.items() if value not in (None, "")}


def _opinions(cell: Cell) -> Iterator[_Opinion]:
    """A cell's opinions, the world's truth first, answers before other parts, the strict reading before others."""
    order = sorted(
        cell.judged, key=lambda j: (judge_kind(cell, j.judge) != "toy_truth", PART_ORDER.index(j.part), j.judge)
    )
    for judged in order:
        part = "" if judged.part == "answer" else f", {judged.part}"
        readings = sorted(judged.correct, key=lambda r: (r != "strict", r)) or [""]
        for reading in readings:
            said = f", {reading} reading" if len(readings) > 1 else ""
            yield _Opinion(f"{judged.judge}{part}{said}", judged, _letters(judged, reading))


def _letters(judged: Judged, reading: str) -> Any:
    """``(P, N)`` letters of ``OUTCOMES``; ``NOT_ASKED`` where the judge was not asked."""
    letter = {word: letter for letter, word in OUTCOMES.items()}
    out = np.full(judged.label_PN.shape, NOT_ASKED)
    for word in ("unsafe", "safe", "refused", "complied", "unscored"):
        out[judged.label_PN == word] = letter[word]
    graded = judged.label_PN == "graded"
    right = judged.correct.get(reading, np.zeros_like(graded))
    out[graded & right], out[graded & ~right] = letter["right"], letter["wrong"]
    return out


def _is_shown(row: Candidate) -> bool:
    """Selectors at the layer that the tables show; those that choose nothing, or every layer, are left to them."""
    return row.layer_chosen_on != "scan" and row.selector not in NO_CHOICE


def _is(headline: SelectorSpec, row: Candidate) -> bool:
    score = headline.score if headline.band is None else band_name(headline.score, headline.band)
    return row.selector in (score, f"{score}_{headline.direction}")


def _at_layer(name: str, layer: int | None) -> str:
    return name if layer is None else f"{name}, layer {layer}"


def _values(cell: Cell, name: str, layer: int | None) -> Floats:
    values = cell.scores[name]
    return values if layer is None else values[:, :, layer]


def _number(value: float) -> float | None:
    """Six digits are more than one reads; None for a score that is not there."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
