"""States for probes: of samples where a pooling reads them, and of prompts at their last token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dalign.attribute import Pair
from dalign.attribute.pairs import Position
from dalign.attribute.states import before_response, read_states
from dalign.models import LoadedModel
from dalign.specs.probe import Input, Pooling
from dalign.specs.run import RunSpec
from dalign.store import progress_bar
from dalign.train.features import Features
from dalign.train.rows import Rows

STATES_CHUNK = 256


def features_of(wanted: Input, base: Tensor, ours: Tensor | None, rows_X: Tensor | None = None) -> Features:
    """What a probe of an input sees of states (R, L+1, D). Raises ``ValueError`` where the student's were not read."""
    if wanted == "base":
        return Features(base, rows_X=rows_X)
    if ours is None:
        raise ValueError(f"input {wanted!r} needs the student's states")
    return Features(ours, base if wanted == "difference" else None, rows_X)


def sample_states(
    spec: RunSpec, loaded: LoadedModel, rows: Rows, pooling: Pooling, student: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """States of base and student, (R, L+1, D), and the row of each sample where samples share one: at the prompt's last
    token all samples of a prompt do."""
    end_id = loaded.chat.end_id
    if pooling != "prompt":
        pairs = [Pair(p, r, end_id) for p, r in zip(rows.prompt_ids, rows.response_ids, strict=True)]
        return *_read(spec, loaded, pairs, pooling, student, pooling), None
    row_of = {ids: i for i, ids in enumerate(dict.fromkeys(rows.prompt_ids))}
    found = prompt_states(spec, loaded, list(row_of), student, pooling)
    return *found, torch.tensor([row_of[ids] for ids in rows.prompt_ids])


def prompt_states(
    spec: RunSpec, loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], student: bool, label: str
) -> tuple[Tensor, Tensor | None]:
    """States of base and student at the last token of each prompt, (R, L+1, D)."""
    return _read(spec, loaded, [before_response(ids) for ids in prompts], "content", student, label)


def _read(
    spec: RunSpec, loaded: LoadedModel, pairs: Sequence[Pair], position: Position, student: bool, label: str
) -> tuple[Tensor, Tensor | None]:
    budget, found = spec.attribution.token_budget, []
    with progress_bar(f"{'both models' if student else 'base'} states, {label}") as progress:
        for start in range(0, len(pairs), STATES_CHUNK):
            chunk = pairs[start : start + STATES_CHUNK]
            found.append(read_states(loaded, chunk, position=position, token_budget=budget, student=student))
            progress(start + len(chunk), len(pairs))
    ours = [states for _, states in found if states is not None]
    return torch.cat([base for base, _ in found]), torch.cat(ours) if student else None
