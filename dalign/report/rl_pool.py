"""What RL changed in several runs that differ in their seeds alone: each run one observation, as in ``repeats``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dalign.report.over_runs import CHANGE, SHARE, Told, mean_interval
from dalign.report.rl import Change

PLACE = ("benchmark", "subset", "metric", "reading", "judge", "judge_kind", "judged", "kind", "quantity")
ANYTHING = (float("-inf"), float("inf"))
TWICE = (-2.0, 2.0)  # a difference of two changes


def pooled_changes(runs: Sequence[Sequence[Change]]) -> list[Change]:
    """The mean of each change over the runs that have it, with its bounds over runs. Marked as rewarded is what every
    one of them rewarded."""
    found: dict[tuple[Any, ...], list[Change]] = {}
    for change in (change for run in runs for change in run if change.difference is not None):
        found.setdefault(tuple(getattr(change, key) for key in PLACE), []).append(change)
    return [_pooled(changes) for changes in found.values()]


def _pooled(changes: Sequence[Change]) -> Change:
    first = changes[0]
    selection, length = first.quantity == "selection", first.metric == "length"
    values, gaps = (ANYTHING, ANYTHING) if length else (CHANGE, TWICE) if selection else (SHARE, CHANGE)
    before, before_low, before_high = _mean(changes, ("before", "before_low", "before_high"), values)
    after, after_low, after_high = _mean(changes, ("after", "after_low", "after_high"), values)
    difference, low, high = _mean(changes, ("difference", "low", "high"), gaps)
    return replace(
        first,
        rewarded=all(change.rewarded for change in changes),
        before=before,
        before_low=before_low,
        before_high=before_high,
        after=after,
        after_low=after_low,
        after_high=after_high,
        difference=difference,
        low=low,
        high=high,
        unscored_before=_mean(changes, ("unscored_before",) * 3, SHARE)[0],
        unscored_after=_mean(changes, ("unscored_after",) * 3, SHARE)[0],
        n_prompts=sum(change.n_prompts for change in changes),
        n_groups=sum(change.n_groups for change in changes),
        runs=len(changes),
    )


def _mean(
    changes: Sequence[Change], names: tuple[str, str, str], limits: tuple[float, float]
) -> tuple[float | None, float | None, float | None]:
    told = [Told(*(getattr(change, name) for name in names)) for change in changes]
    return mean_interval([one for one in told if one.value is not None], limits)
