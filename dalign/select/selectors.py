"""Every selector, and all their choices at once: a name, a layer if its score has layers, and weights over samples.

A score that an evaluation writes has its selectors by itself; one of another kind is a function and a line in
``SELECTORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dalign.errors import ConfigError, did_you_mean
from dalign.select.rank import Bools, Direction, Floats, arg_weights, uniform_weights
from dalign.specs.sampling import SelectorSpec


@dataclass(frozen=True)
class SelectorInput:
    """What a selector may know of P prompts with N samples each; there is no place for a verdict in it.

    ``scores`` maps a name to (P, N) or, by layer, (P, N, L); NaN is no score. ``lengths_PN`` counts response tokens.
    ``finished_PN`` says which samples ended by themselves with an answer, ``exists_PN`` which were drawn at all.
    """

    scores: Mapping[str, Floats]
    lengths_PN: NDArray[np.int64]
    finished_PN: Bools
    exists_PN: Bools

    def __post_init__(self) -> None:
        shape = self.lengths_PN.shape
        others = {"finished_PN": self.finished_PN, "exists_PN": self.exists_PN}
        scores = {f"scores[{name!r}]": values for name, values in self.scores.items()}
        for name, values in {**others, **scores}.items():
            if len(shape) != 2 or values.shape[:2] != shape or values.ndim not in (2, 3):
                raise ValueError(f"{name} has shape {values.shape}, lengths_PN {shape}")

    def eligible(self, require_finished: bool) -> Bools:
        """The samples that may be chosen (P, N)."""
        return self.exists_PN & self.finished_PN if require_finished else self.exists_PN


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


SELECTORS: dict[str, Selector] = {"first": first, "random": at_random, "shortest": shortest, "longest": longest}


def choose(inputs: SelectorInput, *, require_finished: bool = True) -> Iterator[tuple[str, int | None, Floats]]:
    """Every selector's (name, layer, weights (P, N)): those of ``SELECTORS``, then both ends of each score.

    A score's selectors are called ``SCORE_argmin`` and ``SCORE_argmax``; a score with layers comes once a layer, others
    with ``None``. A row of zeros is a prompt without an eligible sample, an outcome of its own.
    """
    eligible_PN = inputs.eligible(require_finished)
    for name, selector in SELECTORS.items():
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

    Raises ``ConfigError`` for a score or a layer that was not computed, and a layer that the model does not have.
    """
    eligible_PN = inputs.eligible(spec.require_finished)
    if spec.score in SELECTORS:
        return spec.score, None, SELECTORS[spec.score](inputs, eligible_PN)
    if spec.score not in inputs.scores:
        known = [*inputs.scores, *SELECTORS]
        raise ConfigError(f"selector.score={spec.score!r} was not computed; {did_you_mean(spec.score, known)}")
    scores = inputs.scores[spec.score]
    layer = _layer_of(spec.layer, spec.score, None if scores.ndim == 2 else scores.shape[-1] - 1)
    at_layer = scores if layer is None else scores[..., layer]
    if layer is not None and at_layer.size and np.isnan(at_layer).all() and not np.isnan(scores).all():
        raise ConfigError(f"selector.layer={layer}: no score was computed there; add it to attribution.layers")
    return f"{spec.score}_{spec.direction}", layer, arg_weights(at_layer, eligible_PN, spec.direction)


def _layer_of(asked: int | Literal["auto"] | None, score: str, n_layers: int | None) -> int | None:
    if n_layers is None:
        if isinstance(asked, int):
            raise ConfigError(f"selector.layer={asked}: the score {score!r} has no layers; leave it at auto")
        return None
    if asked is None or asked == "auto":
        return auto_layer(n_layers)
    if not 0 <= asked <= n_layers:
        raise ConfigError(f"selector.layer={asked}: this model has hidden states 0 (embeddings) to {n_layers}")
    return asked
