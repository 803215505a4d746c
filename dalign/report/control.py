"""Prompts and responses that spell a control token of the model or of a judge: kept as text, and counted here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dalign.control_tokens import MODEL, Behind, control_of, pattern
from dalign.report.formats import PlainTable
from dalign.report.metrics import Bools
from dalign.specs.protocol import IMPORTED

TITLE = "Prompts and responses that spell a control token, by whose it is"
NONE = "No prompt and no response spells a control token of the model's or of a judge's tokenizer."
UNKNOWN = (
    "Whether texts spell control tokens is not known of {} of {} {}: they were drawn by an earlier version, "
    "which did not write the tokenizer's down."
)
FAR = (
    "Judges behind an endpoint ({}) are sent such text as it stands: what the template there makes of it is not known "
    "here."
)
MARKERS = (
    "Of {} the tokenizer is not known (judges.KEY.tokenizer names it): counted are the markers of common chat formats, "
    "and others are not seen."
)
WHOSE: dict[Behind, str] = {
    "": "judge {}",
    "tokenizer": "judge {}, behind an endpoint",
    "markers": "judge {}, behind an endpoint (common markers)",
}


@dataclass(frozen=True)
class Spelt:
    """Which prompts, ``(P,)``, and responses (reasoning or answer), ``(P, N)``, spell a token of a reader, who may
    stand behind an ``endpoint``."""

    prompt_P: Bools
    response_PN: Bools
    endpoint: Behind = ""


class Said(Protocol):
    """A response's texts: a sample's, or those of a turn of an attack."""

    @property
    def reasoning(self) -> str: ...
    @property
    def answer(self) -> str: ...


class Counted(Protocol):
    """Prompts and responses of one policy whose texts are counted: a cell of an evaluation, or a part of an attack."""

    @property
    def policy(self) -> str: ...
    @property
    def benchmark(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def spelt(self) -> Mapping[str, Spelt]: ...


def spelt_of(
    folder: Path, prompts: Sequence[str], grid: Sequence[Sequence[Said]], *, shown: Sequence[str] | None = None
) -> dict[str, Spelt]:
    """By reader, the texts that spell one of its control tokens; empty where no tokenizer is on record in ``folder``.
    ``prompts`` are as the model was asked, ``shown`` as judges see them where those differ."""
    out = {}
    for name, reader in control_of(folder).items():
        find = pattern(reader.strings)
        texts = prompts if shown is None or name == MODEL else shown
        asked = np.array([_spells(find, text) for text in texts], dtype=bool)
        said = np.array([[_spells(find, one.reasoning, one.answer) for one in row] for row in grid], dtype=bool)
        out[name] = Spelt(asked, said, reader.endpoint)
    return out


def _spells(find: re.Pattern[str] | None, *texts: str) -> bool:
    return find is not None and any(find.search(text) for text in texts)


def spelt_by_any(one: Counted) -> Spelt | None:
    """The texts that spell a token of any reader; None where the model's tokenizer is not on record."""
    if MODEL not in one.spelt:
        return None
    every = one.spelt.values()
    return Spelt(
        np.logical_or.reduce([s.prompt_P for s in every]), np.logical_or.reduce([s.response_PN for s in every])
    )


def control_counts(one: Counted, index_P: NDArray[Any] | slice = slice(None)) -> dict[str, int]:
    """How many of the prompts of ``index_P`` and of their responses spell a control token, as columns of a row; nothing
    where that is not on record."""
    found = spelt_by_any(one)
    if found is None:
        return {}
    asked, said = found.prompt_P[index_P], found.response_PN[index_P]
    return {"n_control_prompts": int(asked.sum()), "n_control_responses": int(said.sum())}


def control_table(counted: Iterable[Counted]) -> PlainTable:
    """A line a policy, benchmark and reader whose control tokens some text spells: how many prompts and responses."""
    rows = [
        (
            one.policy,
            one.benchmark,
            "the model" if reader == MODEL else WHOSE[spelt.endpoint].format(reader),
            f"{int(spelt.prompt_P.sum())} of {spelt.prompt_P.size}",
            f"{int(spelt.response_PN.sum())} of {spelt.response_PN.size}",
        )
        for one in counted
        for reader, spelt in one.spelt.items()
        if spelt.prompt_P.any() or spelt.response_PN.any()
    ]
    return PlainTable("control", TITLE, ("policy", "benchmark", "tokenizer of", "prompts", "responses"), tuple(rows), 3)


def control_notes(counted: Sequence[Counted], *, called: str = "evaluations") -> list[str]:
    """What the table says in a line, which of those that are ``called`` so it cannot speak of, and what is not known of
    judges behind endpoints."""
    known = [found for one in counted if (found := spelt_by_any(one)) is not None]
    unknown = sum(MODEL not in one.spelt and one.protocol != IMPORTED for one in counted)
    prompts, responses = (sum(int(a.sum()) for a in side) for side in _sides(known))
    out = []
    if prompts or responses:
        of_prompts, of_responses = (sum(a.size for a in side) for side in _sides(known))
        out.append(
            f"{prompts} of {of_prompts} prompts and {responses} of {of_responses} responses spell a control token of "
            "the model's or of a judge's tokenizer (one that the model drew itself counts too): the model was asked, "
            "and judges on this machine judged, with each of them as text. The table below tells whose they are."
        )
    elif known and not unknown:
        out.append(NONE)
    if unknown:
        out.append(UNKNOWN.format(unknown, len(counted), called))
    return [*out, *_of_endpoints(counted)]


def _of_endpoints(counted: Sequence[Counted]) -> list[str]:
    far = {name: spelt.endpoint for one in counted for name, spelt in one.spelt.items() if spelt.endpoint}
    unnamed = [name for name, by in far.items() if by == "markers"]
    out = [FAR.format(", ".join(far))] if far else []
    return [*out, *([MARKERS.format(", ".join(unnamed))] if unnamed else [])]


def _sides(found: Sequence[Spelt]) -> tuple[list[Bools], list[Bools]]:
    return [one.prompt_P for one in found], [one.response_PN for one in found]
