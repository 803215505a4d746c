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
from operator import index
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError
from torch import Tensor

from dalign.attribute import Pair, PairScores, asked_layers, score_pairs
from dalign.drawing import as_sample, sampling_hash
from dalign.errors import ConfigError, ModelError, did_you_mean
from dalign.models import LoadedModel, load_model
from dalign.records import Sample, digest
from dalign.sample import Request, sample_seed
from dalign.sample.transformers import transformers_engine
from dalign.select import arg_weights, auto_layer
from dalign.specs.base import Spec
from dalign.specs.model import ModelSpec
from dalign.specs.sampling import LAYERED, AttributionSpec, FlatName, LayeredName, SamplerSpec

S = TypeVar("S", bound=Spec)


def load(model: str | Path, *, adapter: str | Path | None = None, **options: Any) -> LoadedModel:
    """A model (folder, hub id or ``.gguf``) with a PEFT adapter on it. ``options`` are the fields of ``ModelSpec``.

    Raises ``ModelError`` for what cannot be loaded, ``ConfigError`` for options that ``ModelSpec`` does not take.
    """
    return load_model(_spec(ModelSpec, name=Path(model).name, id=str(model), **options), adapter=adapter)


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
    Raises ``ConfigError`` for numbers out of their range, ``ModelError`` for a prompt that does not fit the model.
    """
    sampler = _spec(SamplerSpec, name="api", n=n, temperature=temperature, max_new_tokens=max_new_tokens)
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
    ``ModelError`` for a layer the model has not and for a model without a base, ``ConfigError`` as ``sample`` does,
    ``ValueError`` if no response is finished and scored.
    """
    if not model.has_base:
        raise ModelError(f"{model.spec.name}: nothing to attribute to; load it with adapter= or base=")
    if by not in LAYERED:
        raise ConfigError(f"by={by}: no score with layers; {did_you_mean(by, LAYERED)}")
    at = auto_layer(model.n_layers) if layer is None else layer
    spec = _spec(AttributionSpec, name="api", layered=(by,), flat=(), layers=(at,))
    asked_layers(spec, model.n_layers)
    sampler = _spec(SamplerSpec, name="api", n=n, temperature=temperature, max_new_tokens=max_new_tokens)
    responses, states = _draw(model, prompt, sampler, seed, think=think, keep_states=True)
    pairs = [Pair(r.prompt_ids, r.response_ids, model.chat.end_id, r.closed) for r in responses]
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
    ids = model.chat.user_ids(prompt, think=think) if isinstance(prompt, str) else _ids(model, "prompt", prompt)
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
    layered: Sequence[LayeredName] = ("similarity",),
    flat: Sequence[FlatName] = (),
) -> PairScores:
    """The attribution scores of one pair; ``layered`` ones at ``layers`` (0 the embeddings; all of them by default).

    A pair that cannot be scored has NaN everywhere, and its ``error`` says why. A model loaded without adapter and
    without ``base`` is its own base: all similarities are 1 then, and only ``flat`` scores of the student alone mean
    anything. Raises ``ModelError`` for a layer or an id that the model has not, ``ConfigError`` for unknown scores.
    """
    spec = _spec(
        AttributionSpec,
        name="api",
        layered=tuple(layered),
        flat=tuple(flat),
        layers=None if layers is None else tuple(layers),
    )
    prompt, response = _ids(model, "prompt_ids", prompt_ids), _ids(model, "response_ids", response_ids)
    found = score_pairs(model, [Pair(prompt, response, model.chat.end_id)], spec)[0]
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
    ``ValueError`` if none is eligible, or if ``finished`` is of another length.
    """
    if finished is not None and len(finished) != len(scores):
        raise ValueError(f"{len(scores)} scores and {len(finished)} finished; give one of each a sample")
    if not len(scores):
        raise ValueError("there are no scores to select from")
    values = np.asarray([scores], float)
    eligible = np.ones_like(values, bool) if finished is None else np.asarray([finished], bool)
    weights = arg_weights(values, eligible, direction)[0]
    if not weights.any():
        told = "draw more, allow more new tokens, or sample with think=False where the model does not reason first"
        raise ValueError(f"no sample is finished and scored; {told}")
    return int(weights.argmax())


def _spec(cls: type[S], **fields: Any) -> S:
    try:
        return cls(**fields)
    except ValidationError as error:
        from dalign.config.faults import faults_by_key

        found = [fault.problem().text for fault in faults_by_key(error, fields, cls)]
        raise ConfigError(tuple(dict.fromkeys(found))) from error


def _ids(model: LoadedModel, name: str, ids: Sequence[int]) -> tuple[int, ...]:
    """The ids as plain integers. Raises ``ModelError`` for one that the model has not."""
    plain = tuple(map(index, ids))
    if unknown := [i for i in plain if not 0 <= i < model.vocab]:
        raise ModelError(f"{name}: no id {unknown[0]} in this model, whose ids are 0 to {model.vocab - 1}")
    return plain
