"""The ten-line library: load a model with an adapter, draw N responses, score them against the base, take one.

from dalign.api import load, sample, score, select

student = load("path/to/base", adapter="path/to/adapter")
responses = sample(student, "What is a fair price for a horse?", n=8)
scores = [score(student, r.prompt_ids, r.response_ids, layers=[12]) for r in responses]
best = responses[select([s.layered["similarity"][0] for s in scores], finished=[r.finished for r in responses])]
print(best.answer)

``best_of`` does the same in one call, and faster: scoring goes on from the states that sampling left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dalign.attribute import Pair, PairScores, asked_layers, score_pairs
from dalign.drawing import as_sample, sampling_hash
from dalign.models import LoadedModel, load_model
from dalign.records import Sample, digest
from dalign.sample import Request, sample_seed
from dalign.sample.transformers import transformers_engine
from dalign.select import arg_weights, auto_layer
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
    """``n`` responses to a prompt: a text (one user turn) or ids. Sample i depends on prompt, ``seed`` and i alone.

    ``think=False`` is for a model that does not reason first: else a response that closes no reasoning is unfinished.
    """
    sampler = SamplerSpec(name="api", n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    return _draw(model, prompt, sampler, seed, think=think)[0]


@dataclass(frozen=True)
class Best:
    """The response taken of ``responses``, which stand in the order drawn, each with its score at ``layer``.

    A response without a score (empty, or over the context) has NaN there.
    """

    response: Sample
    responses: list[Sample]
    scores: list[float]
    layer: int


def best_of(
    model: LoadedModel,
    prompt: str | Sequence[int],
    *,
    n: int = 8,
    layer: int | None = None,
    by: LayeredName = "similarity",
    direction: Literal["argmin", "argmax"] = "argmin",
    temperature: float = 0.7,
    max_new_tokens: int = 1024,
    seed: int = 0,
    think: bool = True,
) -> Best:
    """Draws ``n`` responses and takes the finished one least attributable to the base: a sampler to put in front.

    ``layer`` defaults to the one that a run's headline takes. Scores come from the states that sampling left, so only
    the base passes over the responses again. ``argmax`` takes the worst answer: for attacks and controls alone. Raises
    ``ModelError`` for a layer the model has not, ``ValueError`` if no response is finished and scored.
    """
    at = auto_layer(model.n_layers) if layer is None else layer
    spec = AttributionSpec(name="api", layered=(by,), flat=(), layers=(at,))
    asked_layers(spec, model.n_layers)
    sampler = SamplerSpec(name="api", n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    responses, states = _draw(model, prompt, sampler, seed, think=think, keep_states=True)
    pairs = [Pair(r.prompt_ids, r.response_ids, model.chat.end_id) for r in responses]
    found = score_pairs(model, pairs, spec, student=states)
    values = [nan if f.error else f.layered[by][at] for f in found]
    chosen = select(values, finished=[r.finished for r in responses], direction=direction)
    return Best(responses[chosen], responses, values, at)


def _draw(
    model: LoadedModel,
    prompt: str | Sequence[int],
    sampler: SamplerSpec,
    seed: int,
    *,
    think: bool,
    keep_states: bool = False,
) -> tuple[list[Sample], list[Tensor | None]]:
    """The responses and, where they are kept, the student's states (L+1, D) at the end of each."""
    ids = model.chat.user_ids(prompt, think=think) if isinstance(prompt, str) else tuple(prompt)
    key = digest("prompt", ids)
    requests = [Request(ids, sample_seed(seed, key, i)) for i in range(sampler.n)]
    drawn = transformers_engine(model, sampler, keep_states=keep_states).draw(requests)
    made = sampling_hash(sampler, seed)
    think = think and isinstance(prompt, str)
    samples = [as_sample(model, key, i, ids, d, policy="api", sampling=made, think=think) for i, d in enumerate(drawn)]
    return samples, [d.states_LD for d in drawn]


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

    A pair that cannot be scored has NaN everywhere, and its ``error`` says why. Raises ``ModelError`` for a layer that
    the model has not.
    """
    spec = AttributionSpec(
        name="api", layered=tuple(layered), flat=tuple(flat), layers=None if layers is None else tuple(layers)
    )
    found = score_pairs(model, [Pair(tuple(prompt_ids), tuple(response_ids), model.chat.end_id)], spec)[0]
    wanted = asked_layers(spec, model.n_layers)
    if found.error:
        return PairScores({name: [nan] * len(wanted) for name in layered}, dict.fromkeys(flat, nan), found.error)
    return PairScores({k: [v[layer] for layer in wanted] for k, v in found.layered.items()}, found.flat)


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
