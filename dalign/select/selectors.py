"""Every selector, and all their choices at once: a name, a layer if its score has layers, and weights over samples.

A score that an evaluation writes has its selectors by itself; one of another kind is a function and a line in
``SELECTORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np

from dalign.errors import ConfigError, did_you_mean
from dalign.select.bands import band_mean, band_name
from dalign.select.baselines import REFUSAL, medoid, refusal_vote, until_safe
from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Direction, Floats, arg_weights, uniform_weights
from dalign.specs.sampling import SelectorSpec

Selector = Callable[[SelectorInput, Bools], Floats]


def first(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The eligible sample of lowest index."""
    index_PN = np.broadcast_to(np.arange(eligible_PN.shape[1], dtype=np.float64), eligible_PN.shape)
    return arg_weights(index_PN, eligible_PN, "argmin")


def at_random(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """Each eligible sample equally, in expectation and without a draw: what a selector is compared with."""
    return uniform_weights(eligible_PN)


def shortest(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The eligible sample with the fewest response tokens."""
    return arg_weights(inputs.lengths_PN.astype(np.float64), eligible_PN, "argmin")


def longest(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The eligible sample with the most response tokens."""
    return arg_weights(inputs.lengths_PN.astype(np.float64), eligible_PN, "argmax")


SELECTORS: dict[str, Selector] = {
    "first": first,
    "random": at_random,
    "shortest": shortest,
    "longest": longest,
    "medoid": medoid,
    "refusal_vote": refusal_vote,
    "until_safe": until_safe,
}


def lacks(name: str, inputs: SelectorInput) -> str:
    """What one of ``SELECTORS`` needs and ``inputs`` have not; empty if nothing."""
    if name == "medoid" and inputs.answers is None:
        return "the samples' answers, which are not known here"
    if name == "refusal_vote" and REFUSAL not in inputs.scores:
        return "to know which answers refuse, which is not known here"
    if name == "until_safe" and inputs.until is None:
        return "a judge that reranks: give +judge@judges.rerank=NAME"
    return ""


def choose(inputs: SelectorInput, *, require_finished: bool = True) -> Iterator[tuple[str, int | None, Floats]]:
    """Every selector's (name, layer, weights (P, N)): those of ``SELECTORS`` that lack nothing, then both ends of each
    score.

    A score's selectors are called ``SCORE_argmin`` and ``SCORE_argmax``; a score with layers comes once a layer, others
    with ``None``. A row of zeros is a prompt without an eligible sample, an outcome of its own.
    """
    eligible_PN = inputs.eligible(require_finished)
    for name, selector in SELECTORS.items():
        if lacks(name, inputs):
            continue
        yield name, None, selector(inputs, eligible_PN)
    for name in inputs.scores:
        for direction in get_args(Direction):
            for layer, scores_PN in _by_layer(inputs.scores[name]):
                yield f"{name}_{direction}", layer, arg_weights(scores_PN, eligible_PN, direction)


def _by_layer(scores: Floats) -> Iterator[tuple[int | None, Floats]]:
    for layer in computed_layers(scores):
        yield layer, scores if layer is None else scores[..., layer]


def computed_layers(scores: Floats) -> Sequence[int | None]:
    """The layers of a score (P, N, L) that were asked for; ``[None]`` of one without layers (P, N)."""
    if scores.ndim == 2:
        return [None]
    computed_L = (~np.isnan(scores)).reshape(-1, scores.shape[-1]).any(axis=0)  # all NaN where it was not asked for
    asked: Sequence[int | None] = np.flatnonzero(computed_L).tolist()
    return asked or range(scores.shape[-1])


def auto_layer(n_layers: int) -> int:
    """The layer used where none is named: 12 in models of at least 16 layers, as in the paper, else 43 % of the depth.

    12 of 28 is 43 %. Never 0, the embeddings, which carry no attribution.
    """
    return 12 if n_layers >= 16 else max(round(0.43 * n_layers), 1)


def headline(spec: SelectorSpec, inputs: SelectorInput) -> tuple[str, int | None, Floats]:
    """The (name, layer, weights) of the selector that ``spec`` names; ``spec.score`` may name one of ``SELECTORS`` too.

    Raises ``ConfigError`` for a score or a layer that was not computed, a layer that the model does not have, and what
    a selector lacks.
    """
    eligible_PN = inputs.eligible(spec.require_finished)
    if spec.score in SELECTORS:
        if lack := lacks(spec.score, inputs):
            raise ConfigError(f"selector.score={spec.score} needs {lack}")
        return spec.score, None, SELECTORS[spec.score](inputs, eligible_PN)
    if spec.score not in inputs.scores:
        known = [*inputs.scores, *SELECTORS]
        raise ConfigError(f"selector.score={spec.score!r} was not computed; {did_you_mean(spec.score, known)}")
    scores = inputs.scores[spec.score]
    if spec.band is not None and scores.ndim == 3:
        weights = arg_weights(band_mean(scores, spec.band), eligible_PN, spec.direction)
        return f"{band_name(spec.score, spec.band)}_{spec.direction}", None, weights
    layer = _layer_of(spec.layer, spec.score, None if scores.ndim == 2 else scores.shape[-1] - 1)
    at_layer = scores if layer is None else scores[..., layer]
    if layer is not None and at_layer.size and np.isnan(at_layer).all() and not np.isnan(scores).all():
        raise ConfigError(f"selector.layer={layer}: no score was computed there; add it to attribution.layers")
    return f"{spec.score}_{spec.direction}", layer, arg_weights(at_layer, eligible_PN, spec.direction)


def _layer_of(asked: int | tuple[int, int] | Literal["auto"] | None, score: str, n_layers: int | None) -> int | None:
    if n_layers is None:
        if isinstance(asked, int | tuple):
            raise ConfigError(f"selector.layer={asked}: the score {score!r} has no layers; leave it at auto")
        return None
    if not isinstance(asked, int):
        return auto_layer(n_layers)
    if not 0 <= asked <= n_layers:
        raise ConfigError(f"selector.layer={asked}: this model has hidden states 0 (embeddings) to {n_layers}")
    return asked
