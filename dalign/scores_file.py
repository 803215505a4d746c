"""Scores of a cell as one safetensors file: ``layered/<name>`` (P, N, L+1) and ``flat/<name>`` (P, N), float32.

NaN stands where a pair has no score; the reason stands in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dalign.errors import ArtifactError
from dalign.files import replace_file
from dalign.records import Prompt, Sample, Scores


def write_scores(path: Path, prompts: Sequence[Prompt], samples: Sequence[Sample], scores: Sequence[Scores]) -> None:
    """Writes the scores of ``samples``, which come prompt after prompt, N each. Raises ``ValueError`` on ragged N."""
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
    metadata = {
        "schema": "1",
        "prompt_ids": json.dumps([p.id for p in prompts]),
        "n": str(n),
        "base_hash": scores[0].base_hash if scores else "",
        "errors": json.dumps(errors, sort_keys=True),
    }
    replace_file(path, lambda to: save_file(tensors, to, metadata))


def read_scores(path: Path, samples: Sequence[Sample]) -> dict[str, Scores]:
    """The scores of a file by sample id, for the samples it covers. Raises ``ArtifactError`` if it is torn."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: not readable ({error}); delete it to have it made again") from error
    errors = json.loads(metadata["errors"])
    row = {prompt_id: i for i, prompt_id in enumerate(json.loads(metadata["prompt_ids"]))}
    n = int(metadata["n"])
    found = {}
    for sample in samples:
        if sample.prompt_id not in row or sample.index >= n:
            continue
        at = (row[sample.prompt_id], sample.index)
        error = errors.get(sample.id, "")
        layered = {k[8:]: v[at].tolist() for k, v in tensors.items() if k.startswith("layered/") and not error}
        flat = {k[5:]: float(v[at]) for k, v in tensors.items() if k.startswith("flat/") and not error}
        found[sample.id] = Scores(sample.id, metadata["base_hash"], layered, flat, error)
    return found
