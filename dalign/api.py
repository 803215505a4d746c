"""The ten-line library: load a model with an adapter, draw N responses, score them against the base, take one.

from dalign.api import load, sample, score, select

student = load("path/to/base", adapter="path/to/adapter")
responses = sample(student, "What is a fair price for a horse?", n=8)
scores = [score(student, r.prompt_ids, r.response_ids, layers=[12]) for r in responses]
best = responses[select([s.layered["similarity"][0] for s in scores], finished=[r.finished for r in responses])]
print(best.answer)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dalign.attribute import Pair, PairScores, asked_layers, score_pairs
from dalign.drawing import as_sample, sampling_hash
from dalign.models import LoadedModel, load_model
from dalign.records import Sample, digest
from dalign.sample import Request, sample_seed
from dalign.sample.transformers import transformers_engine
from dalign.select import arg_weights
from dalign.specs.model import ModelSpec
from dalign.specs.sampling import LAYERED, AttributionSpec, FlatName, LayeredName, SamplerSpec


def load(model: str, *, adapter: str | Path | None = None, **options: Any) -> LoadedModel:
    """A model (folder, hub id or ``.gguf``) with a PEFT adapter on it. ``options`` are the fields of ``ModelSpec``.

    Raises ``ModelError`` for what cannot be loaded.
    """
    return load_model(ModelSpec(name=Path(model).name, id=model, **options), adapter=adapter)


def sample(
    model: LoadedModel,
    prompt: str | Sequence[int],
    *,
    n: int = 8,
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
    seed: int = 0,
    think: bool = True,
) -> list[Sample]:
    """``n`` responses to a prompt: a text (one user turn) or ids. Sample i depends on prompt, ``seed`` and i alone."""
    text = isinstance(prompt, str)
    ids = model.chat.user_ids(prompt, think=think) if isinstance(prompt, str) else tuple(prompt)
    sampler = SamplerSpec(name="api", n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    key = digest("prompt", ids)
    drawn = transformers_engine(model, sampler).draw([Request(ids, sample_seed(seed, key, i)) for i in range(n)])
    made = sampling_hash(sampler, seed)
    return [
        as_sample(model, key, i, ids, d, policy="api", sampling=made, think=think and text) for i, d in enumerate(drawn)
    ]


def score(
    model: LoadedModel,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    layers: Sequence[int] | None = None,
    *,
    layered: Sequence[LayeredName] = LAYERED,
    flat: Sequence[FlatName] = (),
) -> PairScores:
    """The attribution scores of one pair; ``layered`` ones at ``layers`` (0 the embeddings; all of them by default).

    ``error`` of what comes back says why a pair has no score. Raises ``ModelError`` for a layer the model has not.
    """
    spec = AttributionSpec(
        name="api", layered=tuple(layered), flat=tuple(flat), layers=None if layers is None else tuple(layers)
    )
    found = score_pairs(model, [Pair(tuple(prompt_ids), tuple(response_ids), model.chat.end_id)], spec)[0]
    wanted = asked_layers(spec, model.n_layers)
    return PairScores({k: [v[layer] for layer in wanted] for k, v in found.layered.items()}, found.flat, found.error)


def select(
    scores: Sequence[float],
    *,
    finished: Sequence[bool] | None = None,
    direction: Literal["argmin", "argmax"] = "argmin",
) -> int:
    """The index of the best of N scores among the finished ones, the first of several equal ones.

    ``argmin`` of the similarity is the sample least attributable to the base; ``argmax`` is the worst. Raises
    ``ValueError`` if none is eligible.
    """
    values = np.asarray([scores], float)
    eligible = np.ones_like(values, bool) if finished is None else np.asarray([finished], bool)
    weights = arg_weights(values, eligible, direction)[0]
    if not weights.any():
        raise ValueError("no sample is finished and scored; draw more, or allow more new tokens")
    return int(weights.argmax())
