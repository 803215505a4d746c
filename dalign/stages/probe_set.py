"""A set of probes over the same samples: the states of each pooling are read once, for all probes that want them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dalign.attribute import Pair
from dalign.attribute.pairs import Position
from dalign.attribute.states import before_response, read_states
from dalign.models import LoadedModel
from dalign.select import auto_layer
from dalign.specs.probe import Method, Pooling, Variant
from dalign.specs.run import RunSpec
from dalign.specs.stage import ProbeStage
from dalign.store import progress_bar
from dalign.train.features import Features, baseline_features
from dalign.train.probe import FittedProbe, leave_benchmarks_out, train_probe
from dalign.train.probe_figures import Scale, probe_entry
from dalign.train.rows import Rows

STATES_CHUNK = 256


@dataclass(frozen=True)
class ProbeSet:
    """The probes by the names of their scores, the plain one first, and the table that compares them."""

    fitted: Mapping[str, FittedProbe]
    table: Mapping[str, Any]


def train_set(spec: RunSpec, stage: ProbeStage, loaded: LoadedModel, rows: Rows) -> ProbeSet:
    """Fits every probe that the stage asks for, and the baselines. Raises ``DataError`` where labels do not suffice."""
    bench = _Bench(spec, stage, rows, Scale(rows, seed=spec.seed))
    layer = auto_layer(loaded.n_layers)
    variants = stage.variants(spec.attribution.position)
    fitted: dict[str, FittedProbe] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, variant, features in _features(spec, variants, loaded, rows):
        fitted[name], entry = bench.fit(name, features, variant.method, layer)
        entries[name] = {**entry, **variant._asdict()}
    baselines = [bench.fit(one, baseline_features(one, rows), "logistic", 0)[1] for one in stage.baselines]
    table = {
        "schema": 1,
        "samples": len(rows),
        **bench.scale.facts(),
        "probes": [entries[name] for name in variants],
        "baselines": baselines,
    }
    return ProbeSet({name: fitted[name] for name in variants}, table)


@dataclass(frozen=True)
class _Bench:
    """Fits classifiers on the same rows and measures them alike."""

    spec: RunSpec
    stage: ProbeStage
    rows: Rows
    scale: Scale

    def fit(self, name: str, features: Features, method: Method, layer: int) -> tuple[FittedProbe, dict[str, Any]]:
        """The classifier, and its entry of the table."""
        seed, trainer = self.spec.seed, self.spec.trainer
        found = train_probe(features, self.rows, self.stage, method=method, seed=seed, trainer=trainer)
        left_out = None
        if self.stage.leave_out and len(set(self.rows.benchmarks)) > 1:
            left_out = leave_benchmarks_out(features, self.rows, self.stage, method=method, seed=seed, trainer=trainer)
        return found, probe_entry(name, found, left_out, self.scale, layer=layer)


def _features(
    spec: RunSpec, variants: Mapping[str, Variant], loaded: LoadedModel, rows: Rows
) -> Iterator[tuple[str, Variant, Features]]:
    """Each variant with its features, pooling by pooling: states of one pooling are in memory at a time."""
    for pooling in dict.fromkeys(v.pooling for v in variants.values()):
        own = {name: v for name, v in variants.items() if v.pooling == pooling}
        student = any(v.input != "base" for v in own.values())
        base, ours, rows_X = _states(spec, loaded, rows, pooling, student)
        for name, variant in own.items():
            if variant.input == "base" or ours is None:
                yield name, variant, Features(base, rows_X=rows_X)
            else:
                yield name, variant, Features(ours, base if variant.input == "difference" else None, rows_X)


def _states(
    spec: RunSpec, loaded: LoadedModel, rows: Rows, pooling: Pooling, student: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """States of base and student, (R, L+1, D), and the row of each sample where samples share one: at the prompt's last
    token all samples of a prompt do."""
    end_id = loaded.chat.end_id
    if pooling != "prompt":
        pairs = [Pair(p, r, end_id) for p, r in zip(rows.prompt_ids, rows.response_ids, strict=True)]
        return *_read(spec, loaded, pairs, pooling, student, pooling), None
    row_of = {ids: i for i, ids in enumerate(dict.fromkeys(rows.prompt_ids))}
    found = _read(spec, loaded, [before_response(ids) for ids in row_of], "content", student, pooling)
    return *found, torch.tensor([row_of[ids] for ids in rows.prompt_ids])


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
