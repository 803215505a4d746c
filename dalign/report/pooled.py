"""Runs that differ in their seeds alone, as one experiment: every figure of theirs is observed once a run.

A pooled value is the mean over runs, each of equal weight, and its interval Student's t over them: it tells of another
run with another seed, where a run's own interval tells of other prompts in that run. Where all runs happen to agree the
first knows nothing, so each end is the farther one of it and of what the runs' own intervals give for their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from dalign.errors import ConfigError
from dalign.report.intervals import MIN_EXPECTED, Floats
from dalign.report.rows import Row, finish, number
from dalign.report.tables import Headline, Report, primary_claims

POWER = 0.8
# What may differ between runs that are pooled, of what a cell's configuration says.
COMPARED = ("model", "teacher", "dataset", "sampler", "attribution", "judges", "benchmark", "limit", "protocol")
ON_LABELS = ("test_labels", "other_folds")  # such a layer may be another in each run
PLACE = ("policy", "benchmark", "subset", "metric", "reading", "judge", "judged", "protocol", "selector", "k")
SUMMED = ("n_prompts", "n_paired", "n_unscored", "n_groups", "auroc_prompts")
AVERAGED = (
    *("finished_rate", "truncated_rate", "empty_rate", "value_if_unscored_safe", "value_if_unscored_unsafe"),
    *("safe_finished", "safe_finished_difference", "difference_from_finished", "samples_drawn", "tokens", "flops"),
)
WITH_INTERVAL = ("auroc_within_prompt", "auroc_pooled")
# Of one run alone, with no meaning for several.
DROPPED = ("p_permutation", "mc_error", "n_control_prompts", "n_control_responses")


@dataclass(frozen=True)
class PooledRow:
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
class Pool:
    """What several runs give together, ``rows`` adjusted together; ``at_k`` are those of best of k below N, which claim
    nothing. ``seeds`` holds (seed, world_seed) of each."""

    names: tuple[str, ...]
    seeds: tuple[tuple[int, int], ...]
    headline: Headline
    rows: tuple[PooledRow, ...]
    at_k: tuple[PooledRow, ...]


def pool(reports: Sequence[Report]) -> Pool:
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
    return Pool(names, seeds, reports[0].headline, tuple(rows), tuple(below))


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


def _pooled(runs: Sequence[Sequence[Row]], name: str) -> list[PooledRow]:
    tables = [{_place(row): row for row in rows} for rows in runs]
    places = dict.fromkeys(place for table in tables for place in table)
    return [_pooled_row([table.get(place) for table in tables], name) for place in places]


def _place(row: Row) -> tuple[Any, ...]:
    layer = None if row.layer_chosen_on in ON_LABELS else row.layer
    return (*(getattr(row, key) for key in PLACE), row.layer_chosen_on, layer)


def _pooled_row(found: Sequence[Row | None], name: str) -> PooledRow:
    rows = [row for row in found if row is not None]
    known = [row for row in rows if row.value is not None]
    values = tuple(None if row is None else row.value for row in found)
    differences = tuple(None if row is None else row.difference for row in found)
    paired = [row for row in known if row.difference is not None]
    changed: dict[str, Any] = {"run": name, "layer": _common(rows, "layer"), "seed": _common(rows, "seed") or 0}
    changed |= {key: _total(rows, key) for key in SUMMED} | {key: _mean(rows, key) for key in AVERAGED}
    changed |= dict.fromkeys(DROPPED)
    changed |= _estimate("value", [_told(row, "value", "ci") for row in known], (0.0, 1.0), "ci")
    for key in WITH_INTERVAL:
        told = [_told(row, key, f"{key}_ci") for row in rows if getattr(row, key) is not None]
        changed |= _estimate(key, told, (0.0, 1.0), f"{key}_ci")
    changed |= _comparison(paired)
    signs = np.sign([row.difference or 0.0 for row in paired]) * (1 if rows[0].metric == "accuracy" else -1)
    row = replace(rows[0], **changed, p_adjusted=None, family="", claim="")
    return PooledRow(row, values, differences, int((signs > 0).sum()), int((signs < 0).sum()))


def _comparison(paired: Sequence[Row]) -> dict[str, Any]:
    """Difference, p-value and smallest detectable effect over runs; the ratio of means with its linearised interval."""
    told = [_told(row, "difference", "difference_ci") for row in paired]
    out = _estimate("difference", told, (-1.0, 1.0), "difference_ci")
    baseline = np.array([row.baseline for row in paired], dtype=float)
    out |= {"baseline": number(baseline.mean()) if len(paired) else None, "p_value": None, "smallest_detectable": None}
    out |= dict.fromkeys(("relative_change", "relative_change_ci_low", "relative_change_ci_high"))
    if out["difference_ci_low"] is None:
        return out
    gaps = np.array([row.difference for row in paired], dtype=float)
    error = _standard_error(gaps)
    if error > 0:
        out["p_value"] = float(2 * student_t.sf(abs(gaps.mean()) / error, len(gaps) - 1))
        out["smallest_detectable"] = float((_quantile(0.975, gaps) + _quantile(POWER, gaps)) * error)
    if (baseline * [row.n_paired for row in paired]).sum() >= MIN_EXPECTED and error > 0:
        ratio = gaps.mean() / baseline.mean()
        half = _quantile(0.975, gaps) * _standard_error(gaps - ratio * baseline) / baseline.mean()
        out["relative_change"] = float(ratio)
        out["relative_change_ci_low"], out["relative_change_ci_high"] = (
            float(max(ratio - half, -1)),
            float(ratio + half),
        )
    return out


def _told(row: Row, key: str, ends: str) -> tuple[float, float | None, float | None]:
    return getattr(row, key), getattr(row, f"{ends}_low"), getattr(row, f"{ends}_high")


def _estimate(
    key: str, told: Sequence[tuple[float, float | None, float | None]], limits: tuple[float, float], ends: str
) -> dict[str, float | None]:
    """The mean under ``key`` and its 95 % bounds; none where no run has bounds, as of one and the same choice, or where
    a single run has a value."""
    mean, low, high = mean_interval(told, limits)
    return {key: mean, f"{ends}_low": low, f"{ends}_high": high}


def mean_interval(
    told: Sequence[tuple[float, float | None, float | None]], limits: tuple[float, float]
) -> tuple[float | None, float | None, float | None]:
    """The mean of runs' (value, low, high) and its 95 % bounds within ``limits``: at each end the farther one of
    Student's t over the values and of the runs' own half-widths taken together, root of the sum of squares over R."""
    if not told:
        return None, None, None
    values = np.array([value for value, _, _ in told])
    mean = float(values.mean())
    bounds = [(value, low, high) for value, low, high in told if low is not None and high is not None]
    if len(told) < 2 or not bounds:
        return mean, None, None
    half = _quantile(0.975, values) * _standard_error(values)
    below = np.sqrt(sum((value - low) ** 2 for value, low, _ in bounds)) / len(told)
    above = np.sqrt(sum((high - value) ** 2 for value, _, high in bounds)) / len(told)
    low, high = mean - max(half, float(below)), mean + max(half, float(above))
    return mean, max(low, limits[0]), min(high, limits[1])


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _quantile(share: float, values: Floats) -> float:
    return float(student_t.ppf(share, max(len(values) - 1, 1)))


def _known(rows: Iterable[Row], key: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, key)) is not None]


def _total(rows: Sequence[Row], key: str) -> Any:
    found = _known(rows, key)
    return sum(found) if found else None


def _mean(rows: Sequence[Row], key: str) -> float | None:
    found = _known(rows, key)
    return float(np.mean(found)) if found else None


def _common(rows: Sequence[Row], key: str) -> Any:
    """The value that all rows share; None where they differ."""
    values = {getattr(row, key) for row in rows}
    return values.pop() if len(values) == 1 else None
