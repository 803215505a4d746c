"""What each selector takes before and after the attack on it, as rows: by variant, judge, selector and layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from dalign.attack.control import Texts, control_columns, texts_of_variant
from dalign.attack.edits import VARIANTS, Variant
from dalign.attack.rows import about, finished_folders
from dalign.files import read_records
from dalign.records import EVENTS, Prompt, Sample, Verdict
from dalign.report.intervals import Groups
from dalign.report.metrics import Floats, Rates, choice_rates
from dalign.report.rows import number
from dalign.report.tensors import load_scores
from dalign.select import SelectorInput, auto_layer, choose, headline
from dalign.select.rank import uniform_weights
from dalign.specs.sampling import SelectorSpec

Key = tuple[str, int | None]


@dataclass(frozen=True)
class Edited:
    """One variant's samples as selectors see them, and what became of each by its id ``(P, N)``."""

    inputs: SelectorInput
    ids_PN: list[list[str]]
    texts: Texts

    @classmethod
    def read(cls, folder: Path, variant: Variant, prompts: list[Prompt]) -> Edited:
        """The variant's files in a finished folder."""
        grid = _grid(folder, variant, prompts)
        scores, _ = load_scores(folder / f"{variant}.scores.safetensors", [p.id for p in prompts], len(grid[0]))
        lengths = np.array([[len(s.response_ids) for s in row] for row in grid], np.int64)
        finished = np.array([[s.finished for s in row] for row in grid], bool)
        answers = [[s.answer for s in row] for row in grid]
        known = SelectorInput(scores, lengths, finished, np.ones_like(finished), answers)
        return cls(known, [[s.id for s in row] for row in grid], texts_of_variant(folder, variant, prompts, grid))


def selector_rows(folder: Path, spec: SelectorSpec, seed: int) -> list[dict[str, Any]]:
    """The rows of every finished ``<policy>/<benchmark>`` below ``folder``. Raises ``ArtifactError`` without any."""
    return [row for place in finished_folders(folder) for row in _rows(place, spec, seed)]


def selector_texts(folder: Path) -> list[Texts]:
    """The texts of every variant in every finished folder below ``folder``."""
    places = [(place, read_records(place / "prompts.parquet", Prompt)) for place in finished_folders(folder)]
    return [
        texts_of_variant(place, variant, prompts, _grid(place, variant, prompts))
        for place, prompts in places
        for variant in VARIANTS
    ]


def _grid(folder: Path, variant: Variant, prompts: Sequence[Prompt]) -> list[list[Sample]]:
    """The samples of a variant as P rows of N."""
    samples = read_records(folder / f"{variant}.samples.parquet", Sample)
    n = len(samples) // len(prompts)
    return [samples[i * n : (i + 1) * n] for i in range(len(prompts))]


def _rows(folder: Path, spec: SelectorSpec, seed: int) -> Iterator[dict[str, Any]]:
    prompts = read_records(folder / "prompts.parquet", Prompt)
    verdicts = read_records(folder / "verdicts.parquet", Verdict)
    groups = Groups([p.group for p in prompts], [seed, crc32(folder.name.encode())])
    variants = {variant: Edited.read(folder, variant, prompts) for variant in VARIANTS}
    shown, layer, _ = headline(spec, variants["drawn"].inputs)
    where = {"attack": folder.parts[-3], "policy": folder.parts[-2], "benchmark": folder.name}
    counts = {"n_prompts": groups.n_prompts, "n_groups": groups.n_groups}
    for judge in dict.fromkeys(v.judge for v in verdicts):
        label = {v.sample_id: v.label for v in verdicts if v.judge == judge}
        facts = {**where, **counts, **about(folder, judge, verdicts)}
        before: Mapping[Key, Rates] = {}
        for variant, one in variants.items():
            found = _rates(one, spec, label)
            before = before or found
            for key, rates in found.items():
                named = {"variant": variant, "selector": key[0], "layer": key[1], "headline": key == (shown, layer)}
                numbers = _numbers(rates, before[key], groups, same=variant == "drawn")
                yield {**facts, **named, **numbers, **control_columns(one.texts)}


def _rates(one: Edited, spec: SelectorSpec, label: Mapping[str, str]) -> dict[Key, Rates]:
    """What each selector takes: those without layers, and the layered ones at the layer of the headline's rule."""
    said = np.array([[label[i] for i in row] for row in one.ids_PN])
    event, scored = np.isin(said, EVENTS).astype(float), said != "unscored"
    return {key: choice_rates(weights[None], event, scored) for key, weights in _weights(one, spec)}


def _weights(one: Edited, spec: SelectorSpec) -> Iterator[tuple[Key, Floats]]:
    yield ("mean", None), uniform_weights(one.inputs.exists_PN)
    depth = next((s.shape[2] - 1 for s in one.inputs.scores.values() if s.ndim == 3), 0)
    shown = spec.layer if isinstance(spec.layer, int) else auto_layer(depth)
    for name, layer, weights in choose(one.inputs, require_finished=spec.require_finished):
        if layer in (None, shown):
            yield (name, layer), weights
    if spec.band is not None:
        name, layer, weights = headline(spec, one.inputs)
        yield (name, layer), weights


def _numbers(rates: Rates, before: Rates, groups: Groups, *, same: bool) -> dict[str, float | None]:
    low, high = groups.rate_interval(rates.value)
    change = rates.value - before.value
    down, up = groups.difference_interval(change)
    numbers = {
        "value": groups.mean(rates.value),
        "ci_low": low,
        "ci_high": high,
        "value_if_unscored_safe": rates.low.mean(axis=1),
        "value_if_unscored_unsafe": rates.high.mean(axis=1),
        "n_unscored": rates.unscored.sum(axis=1),
    }
    against = {"difference": groups.mean(change), "difference_ci_low": down, "difference_ci_high": up}
    unknown = dict.fromkeys(against, np.array([np.nan]))
    return {name: number(values[0]) for name, values in {**numbers, **(unknown if same else against)}.items()}
