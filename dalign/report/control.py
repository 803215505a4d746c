"""Prompts and responses that spell a control token of the model or of a judge: kept as text, and counted here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dalign.control_tokens import MODEL, control_of, pattern
from dalign.records import Prompt, Sample
from dalign.report.formats import PlainTable
from dalign.report.metrics import Bools
from dalign.specs.protocol import IMPORTED

if TYPE_CHECKING:
    from dalign.report.load import Cell

TITLE = "Prompts and responses that spell a control token, by whose it is"
NONE = "No prompt and no response spells a control token of the model's or of a judge's tokenizer."
UNKNOWN = (
    "Whether texts spell control tokens is not known of {} of {} evaluations: they were drawn by an earlier version, "
    "which did not write the tokenizer's down."
)


@dataclass(frozen=True)
class Spelt:
    """Which prompts, ``(P,)``, and responses (reasoning or answer), ``(P, N)``, of a cell spell a reader's token."""

    prompt_P: Bools
    response_PN: Bools


def spelt_of(folder: Path, prompts: Sequence[Prompt], grid: Sequence[Sequence[Sample]]) -> dict[str, Spelt]:
    """By reader, the texts of a cell that spell one of its control tokens; empty where no tokenizer is on record."""
    out = {}
    for reader, strings in control_of(folder).items():
        find = pattern(strings)
        asked = np.array([_spells(find, p.text) for p in prompts], dtype=bool)
        said = np.array([[_spells(find, s.reasoning, s.answer) for s in row] for row in grid], dtype=bool)
        out[reader] = Spelt(asked, said)
    return out


def _spells(find: re.Pattern[str] | None, *texts: str) -> bool:
    return find is not None and any(find.search(text) for text in texts)


def spelt_by_any(cell: Cell) -> Spelt | None:
    """The texts of a cell that spell a token of any of its readers; None where the model's tokenizer is not on
    record."""
    if MODEL not in cell.spelt:
        return None
    every = cell.spelt.values()
    return Spelt(
        np.logical_or.reduce([one.prompt_P for one in every]), np.logical_or.reduce([one.response_PN for one in every])
    )


def control_table(cells: Iterable[Cell]) -> PlainTable:
    """A line a policy, benchmark and reader whose control tokens some text spells: how many prompts and responses."""
    rows = [
        (
            cell.policy,
            cell.benchmark,
            "the model" if reader == MODEL else f"judge {reader}",
            f"{int(one.prompt_P.sum())} of {one.prompt_P.size}",
            f"{int(one.response_PN.sum())} of {one.response_PN.size}",
        )
        for cell in cells
        for reader, one in cell.spelt.items()
        if one.prompt_P.any() or one.response_PN.any()
    ]
    return PlainTable("control", TITLE, ("policy", "benchmark", "tokenizer of", "prompts", "responses"), tuple(rows), 3)


def control_notes(cells: Sequence[Cell]) -> list[str]:
    """What the table says in a line, and which cells it cannot speak of."""
    known = [found for cell in cells if (found := spelt_by_any(cell)) is not None]
    unknown = sum(MODEL not in cell.spelt and cell.protocol != IMPORTED for cell in cells)
    prompts, responses = (sum(int(a.sum()) for a in side) for side in _sides(known))
    out = []
    if prompts or responses:
        of_prompts, of_responses = (sum(a.size for a in side) for side in _sides(known))
        out.append(
            f"{prompts} of {of_prompts} prompts and {responses} of {of_responses} responses spell a control token of "
            "the model's or of a judge's tokenizer (one that the model drew itself counts too): the model was asked "
            "and the judges judged with each of them as text. The table below tells whose they are."
        )
    elif known and not unknown:
        out.append(NONE)
    if unknown:
        out.append(UNKNOWN.format(unknown, len(cells)))
    return out


def _sides(found: Sequence[Spelt]) -> tuple[list[Bools], list[Bools]]:
    return [one.prompt_P for one in found], [one.response_PN for one in found]
