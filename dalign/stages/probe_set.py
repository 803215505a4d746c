"""A set of probes over the same samples: the states of each pooling are read once, for all probes that want them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dalign.models import LoadedModel
from dalign.records import Prompt
from dalign.select import auto_layer
from dalign.specs.probe import DIRECTION, Fit, Variant
from dalign.specs.run import RunSpec
from dalign.specs.stage import ProbeStage
from dalign.stages.probe_direction import read_directions
from dalign.stages.probe_states import features_of, sample_states
from dalign.train.direction import Direction
from dalign.train.features import Features, baseline_features
from dalign.train.probe import FittedProbe, leave_benchmarks_out, projected, train_probe
from dalign.train.probe_figures import Scale, probe_entry
from dalign.train.rows import Rows


@dataclass(frozen=True)
class ProbeSet:
    """The probes by the names of their scores, the plain one first, and the table that compares them."""

    fitted: Mapping[str, FittedProbe]
    table: Mapping[str, Any]


def train_set(
    spec: RunSpec, stage: ProbeStage, loaded: LoadedModel, rows: Rows, prompts: Sequence[Prompt] = ()
) -> ProbeSet:
    """Fits every probe that the stage asks for, and the baselines; directions come from training ``prompts``. Raises
    ``DataError`` where labels or prompts do not suffice."""
    bench = _Bench(spec, stage, rows, Scale(rows, seed=spec.seed))
    layer = auto_layer(loaded.n_layers)
    variants = stage.variants(spec.attribution.position)
    directed = dict.fromkeys(v.input for v in variants.values() if v.method == DIRECTION)
    directions = read_directions(spec, loaded, prompts, directed)
    fitted: dict[str, FittedProbe] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, variant, features in _features(spec, variants, loaded, rows):
        if variant.method == DIRECTION:
            fitted[name], entry = bench.project(name, features, directions[variant.input], layer)
        else:
            fitted[name], entry = bench.fit(name, features, variant.method, layer)
        entries[name] = {**entry, **variant._asdict()}
    baselines = [bench.fit(one, baseline_features(one, rows), "logistic", 0)[1] for one in stage.baselines]
    table = {
        "schema": 1,
        "samples": len(rows),
        **bench.scale.facts(),
        **({"direction_prompts": dict(Counter(p.kind for p in prompts))} if directions else {}),
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

    def fit(self, name: str, features: Features, method: Fit, layer: int) -> tuple[FittedProbe, dict[str, Any]]:
        """The classifier, and its entry of the table."""
        seed, trainer = self.spec.seed, self.spec.trainer
        found = train_probe(features, self.rows, self.stage, method=method, seed=seed, trainer=trainer)
        left_out = None
        if self.stage.leave_out and len(set(self.rows.benchmarks)) > 1:
            left_out = leave_benchmarks_out(features, self.rows, self.stage, method=method, seed=seed, trainer=trainer)
        return found, probe_entry(name, found, left_out, self.scale, layer=layer)

    def project(
        self, name: str, features: Features, direction: Direction, layer: int
    ) -> tuple[FittedProbe, dict[str, Any]]:
        """The samples' projections on a direction that saw none of their labels, and its entry of the table."""
        found = projected(features, self.rows, direction, folds=self.stage.folds, seed=self.spec.seed)
        return found, probe_entry(name, found, None, self.scale, layer=layer)


def _features(
    spec: RunSpec, variants: Mapping[str, Variant], loaded: LoadedModel, rows: Rows
) -> Iterator[tuple[str, Variant, Features]]:
    """Each variant with its features, pooling by pooling: states of one pooling are in memory at a time."""
    for pooling in dict.fromkeys(v.pooling for v in variants.values()):
        own = {name: v for name, v in variants.items() if v.pooling == pooling}
        student = any(v.input != "base" for v in own.values())
        base, ours, rows_X = sample_states(spec, loaded, rows, pooling, student)
        for name, variant in own.items():
            yield name, variant, features_of(variant.input, base, ours, rows_X)
