"""Scores of a cell as one safetensors file: ``layered/<name>`` (P, N, L+1) and ``flat/<name>`` (P, N), float32.

NaN stands where a pair has no score, or lacks one of them; the reason stands in the facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dalign.files import read_tensors, write_tensors
from dalign.records import Prompt, Sample, Scores


def write_scores(
    path: Path, prompts: Sequence[Prompt], samples: Sequence[Sample], scores: Sequence[Scores], *, base: str
) -> None:
    """Writes the scores of ``samples``, which come prompt after prompt, N each; ``base`` says what they attribute to.

    Raises ``ValueError`` on ragged N.
    """
    n = len(samples) // max(len(prompts), 1)
    if [s.prompt_id for s in samples] != [p.id for p in prompts for _ in range(n)]:
        raise ValueError("samples do not come prompt after prompt with the same number each")
    first = next((s for s in scores if not s.error), None)
    tensors: dict[str, np.ndarray] = {}
    if first is not None:
        for name, values in first.layered.items():
            rows = [s.layered.get(name, [float("nan")] * len(values)) for s in scores]
            tensors[f"layered/{name}"] = np.array(rows, np.float32).reshape(len(prompts), n, len(values))
        for name in first.flat:
            flat = [s.flat.get(name, float("nan")) for s in scores]
            tensors[f"flat/{name}"] = np.array(flat, np.float32).reshape(len(prompts), n)
    errors = {s.sample_id: s.error for s in scores if s.error}
    base_hash = scores[0].base_hash if scores else ""
    facts = {"schema": 1, "prompt_ids": [p.id for p in prompts], "n": n, "base_hash": base_hash, "errors": errors}
    lacking = {s.sample_id: s.lacking for s in scores if s.lacking}
    write_tensors(path, tensors, {**facts, "base": base, **({"lacking": lacking} if lacking else {})})


def read_scores(path: Path, samples: Sequence[Sample]) -> dict[str, Scores]:
    """The scores of a file by sample id, for the samples it covers. Raises ``ArtifactError`` if it is torn."""
    tensors, facts = read_tensors(path)
    errors, lacking, n = facts["errors"], facts.get("lacking", {}), facts["n"]
    row = {prompt_id: i for i, prompt_id in enumerate(facts["prompt_ids"])}
    found = {}
    for sample in samples:
        if sample.prompt_id not in row or sample.index >= n:
            continue
        at = (row[sample.prompt_id], sample.index)
        error = errors.get(sample.id, "")
        layered = {k[8:]: v[at].tolist() for k, v in tensors.items() if k.startswith("layered/") and not error}
        flat = {k[5:]: float(v[at]) for k, v in tensors.items() if k.startswith("flat/") and not error}
        found[sample.id] = Scores(sample.id, facts["base_hash"], layered, flat, error, lacking.get(sample.id, {}))
    return found
