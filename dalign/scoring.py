"""`dalign score FILE`: attribution and selection over responses that somebody sampled elsewhere.

FILE is JSONL, one prompt a line: ``prompt`` (text) or ``prompt_ids``, and ``responses``, a list of texts or of
``{"text" | "ids", "finished"}``. The turn that answers a ``prompt`` begins with the opened reasoning, as the student's
does; ``"think": false`` in a row leaves it out. Out come the same rows, all their fields kept, with ``chosen``,
``selector``, ``layer`` and ``scores`` (null where there is none), in ``FILE.scores.jsonl``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console

from dalign.attribute import Pair
from dalign.errors import DataError
from dalign.files import write_text
from dalign.headline import rank
from dalign.layout import adapter_of
from dalign.models import LoadedModel
from dalign.policies import load_policy
from dalign.process import quiet, set_threads
from dalign.prompts.readers import Row, read_rows
from dalign.specs.run import RunSpec
from dalign.store import progress_bar


@dataclass(frozen=True)
class Asked:
    """One line of the file, as it stands and in ids; ``finished`` says which responses ended by themselves, ``think``
    whether they were to begin with reasoning."""

    row: dict[str, Any]
    prompt_ids: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    finished: tuple[bool, ...]
    think: bool = True


def main(spec: RunSpec, path: Path) -> int:
    """Scores the file and returns 0. Raises ``DataError`` naming file and line for what cannot be read."""
    quiet()
    set_threads(spec.trainer.threads)
    given = rows_of(path)
    told = f"loading {spec.model.name} with the adapter {adapter_of(spec, 'distill')}"
    Console(stderr=True).print(told, highlight=False, markup=False, soft_wrap=True)
    loaded = load_policy(spec, "distill").loaded
    rows = [_asked(loaded, row.cells, row.where) for row in given]
    out = []
    with progress_bar(f"scores of {path.name}") as progress:
        for done, row in enumerate(rows, 1):
            out.append(_scored(spec, loaded, row))
            progress(done, len(rows))
    target = path.with_name(f"{path.name}.scores.jsonl")
    write_text(target, "".join(json.dumps(row, allow_nan=False) + "\n" for row in out))
    none = sum(row["chosen"] is None for row in out)
    told = f"{len(out)} prompts scored, {none} without a choice (nothing finished and scored): {target}"
    Console().print(told, highlight=False, markup=False, soft_wrap=True)
    return 0


def _scored(spec: RunSpec, loaded: LoadedModel, asked: Asked) -> dict[str, Any]:
    pairs = [Pair(asked.prompt_ids, r, loaded.chat.end_id, closed=not asked.think) for r in asked.responses]
    found = rank(spec, loaded, pairs, asked.finished)
    scores = [
        {
            "layered": {name: [_number(v) for v in values] for name, values in f.layered.items()},
            "flat": {name: _number(value) for name, value in f.flat.items()},
            "error": f.error,
            **({"lacking": f.lacking} if f.lacking else {}),
        }
        for f in found.scores
    ]
    results = {"chosen": found.chosen, "selector": spec.selector.name, "layer": found.layer, "scores": scores}
    return {**asked.row, **results}


def _number(value: float) -> float | None:
    return value if isfinite(value) else None


def rows_of(path: Path) -> list[Row]:
    """The lines of the file, each of which can be written again. Raises ``DataError`` naming file and line."""
    rows = read_rows(path, "jsonl")
    for row in rows:
        try:
            json.dumps(row.cells, allow_nan=False)
        except ValueError as error:
            raise DataError(f"{row.where}: NaN or an infinity is no number of JSON; write null") from error
    return rows


def _asked(loaded: LoadedModel, row: dict[str, Any], where: str) -> Asked:
    prompt, ids = row.get("prompt"), row.get("prompt_ids")
    if isinstance(prompt, str) == (ids is not None):
        raise DataError(f"{where}: needs either prompt (a string) or prompt_ids (a list of integers)")
    responses = row.get("responses")
    if not isinstance(responses, list) or not responses:
        raise DataError(f"{where}: responses must be a list with at least one response")
    think = row.get("think", True)
    if not isinstance(think, bool):
        raise DataError(f"{where}: think={think!r}; it must be true or false")
    asked = (
        loaded.chat.user_ids(prompt, think=think)
        if isinstance(prompt, str)
        else _ids(ids, f"{where}: prompt_ids", loaded)
    )
    found = [_response(loaded, r, f"{where}: response {i}") for i, r in enumerate(responses)]
    return Asked(row, asked, tuple(r for r, _ in found), tuple(ok for _, ok in found), think)


def _response(loaded: LoadedModel, response: Any, where: str) -> tuple[tuple[int, ...], bool]:
    if isinstance(response, str):
        return loaded.chat.text_ids(response), bool(response.strip())
    if not isinstance(response, dict) or not isinstance(response.get("finished", True), bool):
        raise DataError(f"{where}: must be a text, or an object with text or ids, and finished (true or false)")
    text, ids = response.get("text"), response.get("ids")
    if isinstance(text, str) == (ids is not None):
        raise DataError(f"{where}: needs either text or ids")
    tokens = loaded.chat.text_ids(text) if isinstance(text, str) else _ids(ids, where, loaded)
    return tokens, response.get("finished", True) and bool(tokens)


def _ids(value: Any, where: str, loaded: LoadedModel) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in value)
    if not whole or any(not 0 <= i < loaded.vocab for i in value):
        raise DataError(f"{where}: must be a list of token ids from 0 to {loaded.vocab - 1}")
    return tuple(value)
