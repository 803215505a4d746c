"""Runs that differ in their seeds alone, as one experiment: every figure of theirs is observed once a run.

A pooled value is the mean over runs, each of equal weight, and its interval Student's t over them: it tells of another
run with another seed, where a run's own interval tells of other prompts in that run. Where all runs happen to agree the
first knows nothing, so each end is the farther one of it and of what the runs' own intervals give for their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dalign.errors import ConfigError
from dalign.report.intervals import MIN_EXPECTED
from dalign.report.over_runs import CHANGE, SHARE, Told, mean_interval, paired_t, ratio_interval
from dalign.report.rows import Row, finish
from dalign.report.tables import Headline, Report, primary_claims

# What may differ between runs that are pooled, of what a cell's configuration says.
COMPARED = ("model", "teacher", "dataset", "sampler", "attribution", "judges", "benchmark", "limit", "protocol")
ON_LABELS = ("test_labels", "other_folds")  # such a layer may be another in each run
PLACE = ("policy", "benchmark", "subset", "metric", "reading", "judge", "judged", "protocol", "selector", "k")
SUMMED = ("n_prompts", "n_paired", "n_unscored", "n_groups", "auroc_prompts", "equal_length_prompts")
AVERAGED = (
    *("finished_rate", "truncated_rate", "empty_rate", "value_if_unscored_safe", "value_if_unscored_unsafe"),
    *("safe_finished", "safe_finished_difference", "difference_from_finished", "samples_drawn", "tokens", "flops"),
    *("chosen_longest_by_chance", "chosen_shortest_by_chance"),
)
# Means with the bounds that a pooled figure has; what is left of a row's fields is None where runs differ in it.
SHARES = ("auroc_within_prompt", "auroc_pooled", "chosen_longest", "chosen_shortest")
CHANGES = ("equal_length_difference", "equal_length_plain")
OF_ONE_RUN = ("p_permutation", "mc_error", "n_control_prompts", "n_control_responses", "p_adjusted")


@dataclass(frozen=True)
class RepeatedRow:
    """``row`` holds what the runs give together; ``values`` and ``differences`` are each run's own, None where it has
    none. ``better`` and ``worse`` count the runs by the sign of their difference."""

    row: Row
    values: tuple[float | None, ...]
    differences: tuple[float | None, ...]
    better: int
    worse: int

    @property
    def runs(self) -> int:
        """How many runs have a value."""
        return sum(value is not None for value in self.values)


@dataclass(frozen=True)
class Repeats:
    """What several runs give together, ``rows`` adjusted together; ``at_k`` are those of best of k below N, which claim
    nothing. ``seeds`` holds (seed, world_seed) of each."""

    names: tuple[str, ...]
    seeds: tuple[tuple[int, int], ...]
    headline: Headline
    rows: tuple[RepeatedRow, ...]
    at_k: tuple[RepeatedRow, ...]


def repeats_of(reports: Sequence[Report]) -> Repeats:
    """The runs of ``reports`` as one experiment. Raises ``ConfigError`` for fewer than two runs, for two of the same
    seeds, and for runs that differ in more."""
    seeds = tuple(_seeds(report) for report in reports)
    _check(reports, seeds)
    names = tuple(report.run.folder.name for report in reports)
    rows = _pooled([report.rows for report in reports], "+".join(names))
    primary = primary_claims(reports[0])
    finished = finish([one.row for one in rows], primary)
    rows = [replace(one, row=row) for one, row in zip(rows, finished, strict=True)]
    below = _pooled([report.at_k for report in reports], "+".join(names))
    return Repeats(names, seeds, reports[0].headline, tuple(rows), tuple(below))


def _check(reports: Sequence[Report], seeds: Sequence[tuple[int, int]]) -> None:
    if len(reports) < 2:
        raise ConfigError("--pool needs two runs at least, which differ in their seeds alone")
    if len(set(seeds)) < len(seeds):
        again = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ConfigError(f"two of the runs have seed={again[0]} world_seed={again[1]}: one observation, not two")
    first = reports[0]
    for report in reports[1:]:
        if (found := _difference(first, report)) is not None:
            raise ConfigError(
                f"{first.run.folder.name} and {report.run.folder.name} differ in {found}; pool runs that differ in "
                "their seeds alone, and report others side by side, without --pool"
            )
        if report.headline != first.headline:
            raise ConfigError(
                f"the headline is {first.headline.words} in one run and {report.headline.words} in another"
            )


def _seeds(report: Report) -> tuple[int, int]:
    config = report.run.cells[0].config
    return int(config["seed"]), int(config["world_seed"])


def _difference(one: Report, other: Report) -> str | None:
    """What besides seeds the two have not in common; None if nothing."""
    cells = [{(c.policy, c.benchmark): c.config for c in report.run.cells} for report in (one, other)]
    if cells[0].keys() != cells[1].keys():
        lacking = sorted(cells[0].keys() ^ cells[1].keys())[0]
        return f"{lacking[0]} on {lacking[1]}, which one of them has not evaluated"
    for place, config in cells[0].items():
        for key in COMPARED:
            if config.get(key) != cells[1][place].get(key):
                return key
    return None


def _pooled(runs: Sequence[Sequence[Row]], name: str) -> list[RepeatedRow]:
    tables = [{_place(row): row for row in rows} for rows in runs]
    places = dict.fromkeys(place for table in tables for place in table)
    return [_pooled_row([table.get(place) for table in tables], name) for place in places]


def _place(row: Row) -> tuple[Any, ...]:
    layer = None if row.layer_chosen_on in ON_LABELS else row.layer
    return (*(getattr(row, key) for key in PLACE), row.layer_chosen_on, layer)


def _pooled_row(found: Sequence[Row | None], name: str) -> RepeatedRow:
    rows = [row for row in found if row is not None]
    values = tuple(None if row is None else row.value for row in found)
    differences = tuple(None if row is None else row.difference for row in found)
    changed: dict[str, Any] = {field.name: _common(rows, field.name) for field in fields(Row)}
    changed |= {key: _total(rows, key) for key in SUMMED} | {key: _mean(rows, key) for key in AVERAGED}
    changed |= dict.fromkeys(OF_ONE_RUN) | {"run": name, "seed": changed["seed"] or 0, "family": "", "claim": ""}
    changed |= _estimate(rows, "value", "ci", SHARE)
    for key, limits in (*((key, SHARE) for key in SHARES), *((key, CHANGE) for key in CHANGES)):
        changed |= _estimate(rows, key, f"{key}_ci", limits)
    paired = [row for row in rows if row.difference is not None]
    changed |= _comparison(paired)
    signs = np.sign(_known(paired, "difference")) * (1 if rows[0].metric == "accuracy" else -1)
    return RepeatedRow(Row(**changed), values, differences, int((signs > 0).sum()), int((signs < 0).sum()))


def _estimate(rows: Sequence[Row], key: str, ends: str, limits: tuple[float, float]) -> dict[str, float | None]:
    """The mean of ``key`` over the rows that have it, and its bounds under the names that begin with ``ends``."""
    names = (key, f"{ends}_low", f"{ends}_high")
    told = [Told(*(getattr(row, name) for name in names)) for row in rows if getattr(row, key) is not None]
    return dict(zip(names, mean_interval(told, limits), strict=True))


def _comparison(paired: Sequence[Row]) -> dict[str, Any]:
    """Difference with its interval; p-value and smallest detectable effect where the runs have p-values, so that
    controls and best of k below N claim nothing here either; the ratio of means where its baseline has events enough.
    """
    out: dict[str, Any] = _estimate(paired, "difference", "difference_ci", CHANGE)
    out |= {"baseline": _mean(paired, "baseline"), "p_value": None, "smallest_detectable": None}
    out |= dict.fromkeys(("relative_change", "relative_change_ci_low", "relative_change_ci_high"))
    gaps, baseline = np.array(_known(paired, "difference")), np.array(_known(paired, "baseline"))
    if out["difference_ci_low"] is None or not gaps.std() > 0:
        return out
    if any(row.p_value is not None for row in paired):
        out["p_value"], out["smallest_detectable"] = paired_t(gaps)
    if sum(row.n_paired * (row.baseline or 0.0) for row in paired) >= MIN_EXPECTED:
        names = ("relative_change", "relative_change_ci_low", "relative_change_ci_high")
        out |= dict(zip(names, ratio_interval(gaps, baseline), strict=True))
    return out


def _known(rows: Sequence[Row], key: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, key)) is not None]


def _total(rows: Sequence[Row], key: str) -> Any:
    found = _known(rows, key)
    return sum(found) if found else None


def _mean(rows: Sequence[Row], key: str) -> float | None:
    found = _known(rows, key)
    return float(np.mean(found)) if found else None


def _common(rows: Sequence[Row], key: str) -> Any:
    """The value that all rows share; None where they differ."""
    first = getattr(rows[0], key)
    return first if all(getattr(row, key) == first for row in rows) else None
