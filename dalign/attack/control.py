"""The texts of an attack that spell control tokens, counted as an evaluation's are: by target, or by variant.

A model is asked with an attempt, and judges see the goal in its place; what is sent to the attacker is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dalign.attack.edits import Variant, styled
from dalign.attack.turns import Turn
from dalign.files import read_json
from dalign.records import Prompt, Sample
from dalign.report.control import Spelt, control_counts, spelt_of
from dalign.specs.protocol import CORRECTED

UNKNOWN: dict[str, int | None] = {"n_control_prompts": None, "n_control_responses": None}


@dataclass(frozen=True)
class Texts:
    """What one ``part`` of an attack on a policy was asked and said: a target's turns, or a variant's samples."""

    policy: str
    benchmark: str
    part: str
    spelt: Mapping[str, Spelt]
    protocol: str = CORRECTED


def texts_of_turns(folder: Path, target: str, goals: Sequence[Prompt], turns: Sequence[Turn]) -> Texts:
    """The turns of ``target``, each of them a prompt with one response, in ``<policy>/<benchmark>`` of an attack."""
    goal = {one.id: one.text for one in goals}
    shown, grid = [goal[turn.prompt_id] for turn in turns], [[turn] for turn in turns]
    spelt = spelt_of(folder, [turn.prompt for turn in turns], grid, shown=shown)
    return Texts(folder.parts[-2], folder.name, target, spelt)


def texts_of_variant(
    folder: Path, variant: Variant, prompts: Sequence[Prompt], grid: Sequence[Sequence[Sample]]
) -> Texts:
    """The samples of ``variant``, N of each prompt, in ``<policy>/<benchmark>`` of an attack on the selector."""
    shown, attack = [prompt.text for prompt in prompts], read_json(folder / "inputs.json")["results"]["attack"]
    asked = [styled(text, attack["style"]) for text in shown] if variant == "style" else shown
    return Texts(folder.parts[-2], folder.name, variant, spelt_of(folder, asked, grid, shown=shown))


def control_columns(texts: Texts, rows: Sequence[bool] | None = None) -> dict[str, Any]:
    """The columns of a row: how many of the prompts, of ``rows`` alone where given, and of their responses spell a
    control token; None where no tokenizer is on record."""
    index = slice(None) if rows is None else np.asarray(rows, bool)
    return {**UNKNOWN, **control_counts(texts, index)}
