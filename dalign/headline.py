"""The headline selector's choice among samples outside a report: for `dalign try` and `dalign score`.

A report finds the same scores in its files; here they are computed on the spot, a probe's included: ``inputs.probe`` or
the run's own of that name, fitted on everything the run judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from dalign.attribute import Pair, PairScores, score_pairs
from dalign.attribute.states import pooled_states
from dalign.errors import ArtifactError, ConfigError
from dalign.judge.text_scores import text_scores
from dalign.layout import stage_folder
from dalign.models import LoadedModel
from dalign.records import digest
from dalign.sample import sample_seed
from dalign.select import REFUSAL, SELECTORS, SelectorInput, band_mean, headline
from dalign.select.rank import Floats
from dalign.specs.judge import RERANKING
from dalign.specs.probe import DIRECTION, PLAIN, Variant, variant_of
from dalign.specs.run import RunSpec


@dataclass(frozen=True)
class Ranked:
    """All scores of each of N pairs, and what the headline makes of them.

    ``values`` are those that it goes by (NaN without one), at ``layer`` if they have layers; None for a selector that
    is no score. ``order`` holds the pairs that may be chosen, best first.
    """

    scores: list[PairScores]
    values: list[float] | None
    layer: int | None
    order: list[int]

    @property
    def chosen(self) -> int | None:
        """The index of the pair chosen; None where none is finished and scored."""
        return self.order[0] if self.order else None


def rank(spec: RunSpec, loaded: LoadedModel, pairs: Sequence[Pair], finished: Sequence[bool]) -> Ranked:
    """Scores a prompt's ``pairs`` by the attribution of ``spec`` and ranks them by its headline selector.

    Equals, which are all pairs of ``selector=random``, come in an order drawn by ``spec.seed``. Raises
    ``ArtifactError`` if the headline needs a probe and there is none, or one of another model, and ``ConfigError`` for
    a layer without scores, and for a selector that needs a judge.
    """
    found = score_pairs(loaded, pairs, spec.attribution)
    if variant := headline_probe(spec):
        found = _with_probe(spec, variant, loaded, pairs, found)
    by, answers = spec.selector.score, None
    if by in (*SELECTORS, REFUSAL):
        answers = [[loaded.chat.parse(p.response_ids, think=not p.closed).answer for p in pairs]]
        scores = text_scores(answers, toy=spec.model.id == "toy")
    else:
        scores = {by: _table(spec, found, loaded.n_layers)}
    inputs = SelectorInput(
        scores=scores,
        lengths_PN=np.array([[len(pair.response_ids) for pair in pairs]]),
        finished_PN=np.array([finished], bool),
        exists_PN=np.ones((1, len(pairs)), bool),
        answers=answers,
    )
    layer, band, table = headline(spec.selector, inputs)[1], spec.selector.band, scores.get(by)
    at_layer = table if table is None or layer is None else table[..., layer]
    if at_layer is not None and band is not None:
        at_layer = band_mean(at_layer, band)
    draws = np.random.default_rng(sample_seed(spec.seed, digest([(p.prompt_ids, p.response_ids) for p in pairs]), 0))
    values = None if at_layer is None else at_layer[0].tolist()
    return Ranked(found, values, layer, list(_best_first(spec, inputs, draws)))


def headline_probe(spec: RunSpec) -> Variant | None:
    """The probe by which the headline goes; None where it goes by something else."""
    return variant_of(spec.selector.score, spec.attribution.position)


def probe_file(spec: RunSpec) -> Path:
    """Where the headline's probe lies: ``inputs.probe``, else the run's own."""
    if spec.inputs.probe is not None:
        return Path(spec.inputs.probe).expanduser()
    variant, folder = headline_probe(spec), stage_folder(spec, "probe", "distill")
    if variant is None or spec.selector.score == PLAIN:
        return folder / "probe.safetensors"
    return folder / "probes" / f"{variant.name}.safetensors"


def _table(spec: RunSpec, found: Sequence[PairScores], n_layers: int) -> Floats:
    """The headline's scores: (1, N), or (1, N, L+1) of one with layers; NaN where there is none."""
    name, nan = spec.selector.score, float("nan")
    if name.startswith(RERANKING):
        raise ConfigError(f"selector.score={name} asks a judge, which an evaluation alone does; run evaluate.py")
    if name in spec.attribution.layered or headline_probe(spec):
        return np.array([[f.layered.get(name, [nan] * (n_layers + 1)) for f in found]])
    return np.array([[f.flat.get(name, nan) for f in found]])


def _best_first(spec: RunSpec, inputs: SelectorInput, draws: np.random.Generator) -> Iterator[int]:
    """The one chosen, then the one chosen of the others, until none is left that may be."""
    left_PN = inputs.exists_PN.copy()
    while (weights_N := headline(spec.selector, replace(inputs, exists_PN=left_PN))[2][0]).any():
        taken = int(draws.choice(len(weights_N), p=weights_N))
        left_PN[0, taken] = False
        yield taken


def _with_probe(
    spec: RunSpec, variant: Variant, loaded: LoadedModel, pairs: Sequence[Pair], found: Sequence[PairScores]
) -> list[PairScores]:
    path = probe_file(spec)
    if not path.is_file():
        raise ArtifactError(
            f"{path}: no probe there; run stage=probe{_asking_for(spec, variant)}, name one by inputs.probe=, or take "
            "selector=similarity"
        )
    budget = spec.attribution.token_budget
    states_XLD = pooled_states(loaded, pairs, variant.input, variant.pooling, token_budget=budget)
    scores_XL = _scores_of(path, variant, states_XLD).tolist()
    return [
        f if f.error else replace(f, layered={**f.layered, spec.selector.score: row})
        for f, row in zip(found, scores_XL, strict=True)
    ]


def _scores_of(path: Path, variant: Variant, states_XLD: Tensor) -> Tensor:
    """What the probe or direction in a file makes of states. Raises ``ArtifactError`` for one of another model."""
    from dalign.train.direction import Direction
    from dalign.train.probe import Probe

    probe = Direction.load(path) if variant.method == DIRECTION else Probe.load(path)
    shape = tuple((probe.direction_LD if isinstance(probe, Direction) else probe.weights_LD).shape)
    if shape != (wanted := tuple(states_XLD.shape[1:])):
        raise ArtifactError(f"{path}: a probe of (layers, width) {shape}, and this model has {wanted}")
    return probe.project(states_XLD) if isinstance(probe, Direction) else probe.unsafe(states_XLD)


def _asking_for(spec: RunSpec, variant: Variant) -> str:
    if spec.selector.score == PLAIN:
        return ""
    return f" stage.methods=[{variant.method}] stage.inputs=[{variant.input}] stage.poolings=[{variant.pooling}]"
