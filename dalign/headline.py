"""The headline selector's score of samples outside a report: for `dalign try` and `dalign score`.

A report finds the same score in its files; here it is computed on the spot, the probe's included, whose probe is
``inputs.probe`` or the run's own, fitted on everything the run judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dalign.attribute import Pair, PairScores, base_states, score_pairs
from dalign.errors import ArtifactError
from dalign.layout import stage_folder
from dalign.models import LoadedModel
from dalign.select import auto_layer
from dalign.specs.run import RunSpec


@dataclass(frozen=True)
class Scored:
    """All scores of each pair, the headline's value of each (NaN without one), and the layer it was read at."""

    scores: list[PairScores]
    values: list[float]
    layer: int | None


def score_for_choice(spec: RunSpec, loaded: LoadedModel, pairs: Sequence[Pair]) -> Scored:
    """Scores ``pairs`` by the attribution of ``spec`` and, if the headline asks for it, by the probe.

    Raises ``ArtifactError`` if the headline needs a probe and there is none, or one of another model.
    """
    found = score_pairs(loaded, pairs, spec.attribution)
    if spec.selector.score == "probe":
        found = _with_probe(spec, loaded, pairs, found)
    layer = auto_layer(loaded.n_layers) if spec.selector.layer == "auto" else spec.selector.layer
    layered = any(spec.selector.score in f.layered for f in found)
    return Scored(found, [_value(spec, f, layer) for f in found], layer if layered else None)


def _value(spec: RunSpec, found: PairScores, layer: int | None) -> float:
    by_layer = found.layered.get(spec.selector.score)
    if by_layer is not None and layer is not None:
        return by_layer[layer]
    return found.flat.get(spec.selector.score, float("nan"))


def _with_probe(
    spec: RunSpec, loaded: LoadedModel, pairs: Sequence[Pair], found: Sequence[PairScores]
) -> list[PairScores]:
    from dalign.train.probe import Probe

    own = stage_folder(spec, "probe", "distill", "probe.safetensors")
    path = Path(spec.inputs.probe).expanduser() if spec.inputs.probe is not None else own
    if not path.is_file():
        raise ArtifactError(
            f"{path}: no probe there; run stage=probe, name one by inputs.probe=, or take selector=similarity"
        )
    probe = Probe.load(path)
    position, budget = spec.attribution.position, spec.attribution.token_budget
    states_XLD = base_states(loaded, pairs, position=position, token_budget=budget)
    if probe.weights_LD.shape != states_XLD.shape[1:]:
        shape, wanted = tuple(probe.weights_LD.shape), tuple(states_XLD.shape[1:])
        raise ArtifactError(f"{path}: a probe of (layers, width) {shape}, and this model has {wanted}")
    unsafe_XL = probe.unsafe(states_XLD).tolist()
    return [
        f if f.error else PairScores({**f.layered, "probe": row}, f.flat)
        for f, row in zip(found, unsafe_XL, strict=True)
    ]
