"""Score tensors of an evaluation, a probe's out-of-fold scores, and those of controls, in the order of the cell's
prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dalign.errors import ArtifactError
from dalign.files import read_json, read_tensors
from dalign.layout import file_hash
from dalign.report.metrics import Floats
from dalign.store import StageFolder


@dataclass(frozen=True)
class Oof:
    """The file of probes: ``<benchmark>/probe`` tensors ``(P, N, L + 1)`` of P(unsafe), each fold's by a probe that
    never saw the fold's groups, hence one more layered score; further probes stand there as ``<benchmark>/probe:NAME``.
    Empty where there is no probe."""

    path: Path
    tensors: dict[str, Floats]
    prompt_ids: dict[str, list[str]]

    @classmethod
    def read(cls, folder: Path) -> Oof:
        """The out-of-fold scores in a probe's folder."""
        path = folder / "oof.safetensors"
        if not path.exists() or not (folder / "manifest.json").exists():
            return cls(path, {}, {})
        tensors, facts = read_tensors(path)
        table = facts.get("benchmarks", {})
        return cls(path, tensors, {name: list(entry["prompt_ids"]) for name, entry in table.items()})


def load_scores(path: Path, prompt_ids: list[str], n: int) -> tuple[dict[str, Floats], str]:
    """Each score by its bare name, rows in the order of ``prompt_ids``, and what they attribute to, in words.

    Both are empty where the policy has no adapter.
    """
    if not path.exists():
        return {}, ""
    tensors, facts = read_tensors(path)
    order = _order(path, facts.get("prompt_ids"), prompt_ids)
    out: dict[str, Floats] = {}
    for key, values in sorted(tensors.items()):
        family, _, name = key.partition("/")
        dims = {"layered": 3, "flat": 2}.get(family)
        if dims is None or values.ndim != dims or values.shape[:2] != (len(order), n) or name in out:
            raise ArtifactError(
                f"{path}: tensor {key!r} of shape {values.shape} does not fit {len(order)} prompts x {n} samples"
            )
        out[name] = values[order].astype(np.float64)
    if len({v.shape[2] for v in out.values() if v.ndim == 3}) > 1:
        raise ArtifactError(f"{path}: layered scores of different depth")
    return out, str(facts.get("base", ""))


def add_probe(scores: dict[str, Floats], oof: Oof, benchmark: str, prompt_ids: list[str], n: int) -> str:
    """Adds the probes' scores to ``scores``; else returns a note why not, empty where there are none for it."""
    start, ids = f"{benchmark}/", oof.prompt_ids.get(benchmark, [])
    found = {key.removeprefix(start): values for key, values in oof.tensors.items() if key.startswith(start)}
    for values in found.values():
        if sorted(ids) != sorted(prompt_ids) or values.ndim != 3 or values.shape[:2] != (len(prompt_ids), n):
            return f"The probe's scores of {benchmark} are of other samples than the evaluation's: rerun stage=probe."
    scores |= {name: values[_order(oof.path, ids, prompt_ids)].astype(np.float64) for name, values in found.items()}
    return ""


def add_controls(scores: dict[str, Floats], folder: Path, samples: Path, prompt_ids: list[str], n: int) -> list[str]:
    """Adds the scores of the controls below ``folder`` that were made of the very file ``samples``; returns a note for
    each that was not, or is not finished."""
    notes = []
    for control in sorted(path for path in folder.glob("*") if path.is_dir()):
        if not StageFolder(control, config={}, results={}, inputs={}).finished:
            notes.append(f"{control} is unfinished and left out: rerun stage=control.")
        elif read_json(control / "inputs.json")["inputs"]["samples"] != file_hash(samples):
            notes.append(f"{control} is of other samples than the evaluation's: delete it and rerun stage=control.")
        else:
            scores |= load_scores(control / "scores.safetensors", prompt_ids, n)[0]
    return notes


def _order(path: Path, found: Any, wanted: list[str]) -> list[int]:
    """Where each wanted prompt stands in the file."""
    if not isinstance(found, list) or sorted(found) != sorted(wanted):
        raise ArtifactError(f"{path}: its prompts are not those of prompts.parquet; delete its folder to redo it")
    place = {prompt_id: i for i, prompt_id in enumerate(found)}
    return [place[prompt_id] for prompt_id in wanted]
