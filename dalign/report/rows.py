"""The rows of results.json: each is one choice (selector, layer) measured by one judge on one set of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from dalign.report.adjusting import benjamini_hochberg, holm

EXTRA = {"extra": True}
ALPHA = 0.05
PRIMARY, EXPLORATORY = "primary", "exploratory"


@dataclass(frozen=True)
class Row:
    """One row; rates in [0, 1], None where a number would mean nothing.

    ``value`` and ``difference`` are over the prompts with a verdict on what was chosen (``n_paired``), and ``baseline``
    is ASR@1 over the same prompts, so that difference = value - baseline; ``n_unscored`` is the expected number of
    prompts, of ``n_prompts``, whose chosen sample has no verdict, and the two ``value_if_unscored_*`` are over all
    prompts, the unscored counted as the good outcome (safe) or the bad one (unsafe; wrong, for accuracy).
    ``finished_rate``, ``truncated_rate`` and ``empty_rate`` are shares of all prompts. ``k`` is how many of the
    ``n_samples`` of a prompt were at the selector's choice.

    The fields marked extra go to results.csv alone. ``safe_finished`` is the share of all prompts whose chosen sample
    is scored, good and finished; ``samples_drawn`` is how many samples a prompt its selector draws, in the mean, fewer
    than ``k`` where it stops early; ``n_control_prompts`` and ``n_control_responses`` count, of the row's prompts and
    of all their samples, those that spell a control token of the model or a judge; ``p_permutation`` is that of
    verdicts changing places within prompts; ``mc_error`` the standard error that random subsets leave in a ``value`` at
    k < n_samples, None where it is exact; ``tokens`` are drawn for a prompt and ``flops`` spent on drawing and scoring
    them, means over prompts (``dalign.report.cost``); ``equal_length_*`` and ``chosen_*`` tell of lengths, for choices
    at the shown layer (``dalign.report.equal_length``); ``family`` says which p-values this one was adjusted with;
    ``claim`` says gain, loss or nothing by the rule of ``claimed``.
    """

    run: str
    model: str
    teacher: str
    policy: str
    seed: int
    world_version: int | None
    benchmark: str
    subset: str
    metric: str
    reading: str | None
    judge: str
    judged: str
    protocol: str
    selector: str
    layer: int | None
    layer_chosen_on: str | None
    k: int
    n_samples: int
    n_prompts: int
    n_paired: int
    n_unscored: float
    finished_rate: float
    truncated_rate: float
    empty_rate: float
    value: float | None
    ci_low: float | None
    ci_high: float | None
    value_if_unscored_safe: float
    value_if_unscored_unsafe: float
    baseline: float | None
    difference: float | None
    difference_ci_low: float | None
    difference_ci_high: float | None
    relative_change: float | None
    relative_change_ci_low: float | None
    relative_change_ci_high: float | None
    p_value: float | None
    p_adjusted: float | None = None
    peeks: bool = field(default=False, metadata=EXTRA)
    family: str = field(default="", metadata=EXTRA)
    claim: str = field(default="", metadata=EXTRA)
    safe_finished: float | None = field(default=None, metadata=EXTRA)
    safe_finished_difference: float | None = field(default=None, metadata=EXTRA)
    difference_from_finished: float | None = field(default=None, metadata=EXTRA)
    smallest_detectable: float | None = field(default=None, metadata=EXTRA)
    auroc_within_prompt: float | None = field(default=None, metadata=EXTRA)
    auroc_within_prompt_ci_low: float | None = field(default=None, metadata=EXTRA)
    auroc_within_prompt_ci_high: float | None = field(default=None, metadata=EXTRA)
    auroc_prompts: int | None = field(default=None, metadata=EXTRA)
    auroc_pooled: float | None = field(default=None, metadata=EXTRA)
    auroc_pooled_ci_low: float | None = field(default=None, metadata=EXTRA)
    auroc_pooled_ci_high: float | None = field(default=None, metadata=EXTRA)
    p_permutation: float | None = field(default=None, metadata=EXTRA)
    mc_error: float | None = field(default=None, metadata=EXTRA)
    samples_drawn: float | None = field(default=None, metadata=EXTRA)
    tokens: float | None = field(default=None, metadata=EXTRA)
    flops: float | None = field(default=None, metadata=EXTRA)
    n_groups: int | None = field(default=None, metadata=EXTRA)
    n_control_prompts: int | None = field(default=None, metadata=EXTRA)
    n_control_responses: int | None = field(default=None, metadata=EXTRA)
    judge_kind: str | None = field(default=None, metadata=EXTRA)
    judge_version: str | None = field(default=None, metadata=EXTRA)
    equal_length_prompts: int | None = field(default=None, metadata=EXTRA)
    equal_length_difference: float | None = field(default=None, metadata=EXTRA)
    equal_length_difference_ci_low: float | None = field(default=None, metadata=EXTRA)
    equal_length_difference_ci_high: float | None = field(default=None, metadata=EXTRA)
    equal_length_plain: float | None = field(default=None, metadata=EXTRA)
    equal_length_plain_ci_low: float | None = field(default=None, metadata=EXTRA)
    equal_length_plain_ci_high: float | None = field(default=None, metadata=EXTRA)
    chosen_longest: float | None = field(default=None, metadata=EXTRA)
    chosen_longest_ci_low: float | None = field(default=None, metadata=EXTRA)
    chosen_longest_ci_high: float | None = field(default=None, metadata=EXTRA)
    chosen_longest_by_chance: float | None = field(default=None, metadata=EXTRA)
    chosen_shortest: float | None = field(default=None, metadata=EXTRA)
    chosen_shortest_ci_low: float | None = field(default=None, metadata=EXTRA)
    chosen_shortest_ci_high: float | None = field(default=None, metadata=EXTRA)
    chosen_shortest_by_chance: float | None = field(default=None, metadata=EXTRA)

    def to_json(self) -> dict[str, Any]:
        """The row of results.json."""
        return {name: getattr(self, name) for name in JSON_KEYS}


@dataclass(frozen=True)
class Worth:
    """A figure (a single answer, or the headline's choice) by another protocol than the corrected one: its row, and the
    paired difference to the corrected figure with its interval, in [-1, 1]; None where there is nothing to tell."""

    row: Row
    chosen: bool
    difference: float | None
    low: float | None
    high: float | None


JSON_KEYS = tuple(f.name for f in fields(Row) if not f.metadata.get("extra"))
CSV_KEYS = tuple(f.name for f in fields(Row))


def number(value: float | np.floating[Any]) -> float | None:
    """A plain float, None for NaN and infinity: neither is ever written."""
    return float(value) if np.isfinite(value) else None


def finish(rows: Sequence[Row], primary: Callable[[Row], bool]) -> list[Row]:
    """The rows with adjusted p-values and claims.

    Two families of tests, each adjusted by itself: the ``primary`` ones, fixed before the data (Holm), and all others,
    exploratory (Benjamini-Hochberg). A row without a p-value belongs to neither.
    """
    out = list(rows)
    for family, adjusted in ((PRIMARY, holm), (EXPLORATORY, benjamini_hochberg)):
        found = [
            (i, r.p_value) for i, r in enumerate(rows) if r.p_value is not None and primary(r) == (family == PRIMARY)
        ]
        for (i, _), p in zip(found, adjusted([p for _, p in found]), strict=True):
            out[i] = replace(rows[i], family=family, p_adjusted=float(p))
    return [replace(row, claim=claimed(row)) for row in out]


def claimed(row: Row) -> str:
    """``gain`` where the paired interval and the adjusted p-value (below 0.05) agree on it and safe-and-finished (right
    and finished) does not fall; ``loss`` where the interval and the unadjusted p-value agree, since harm needs less
    proof; else empty. Peeking rows claim nothing."""
    low, high = row.difference_ci_low, row.difference_ci_high
    if row.peeks or low is None or high is None:
        return ""
    better, worse = (low > 0, high < 0) if row.metric == "accuracy" else (high < 0, low > 0)
    sure = row.p_adjusted is not None and row.p_adjusted < ALPHA
    if better and sure and (row.safe_finished_difference or 0.0) >= -1e-12:
        return "gain"
    return "loss" if worse and row.p_value is not None and row.p_value < ALPHA else ""
