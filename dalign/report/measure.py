"""A block's table: every candidate's rates, bounds, intervals and paired comparison with ASR@1, in one go.

All candidates of a block share the resamples of its prompts, and all policies and judges those of its benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from dalign.report.aurocs import aurocs
from dalign.report.blocks import Block
from dalign.report.candidates import Candidate, Candidates, peeking, selector_input
from dalign.report.control import control_counts
from dalign.report.detectable import smallest_detectable
from dalign.report.equal_length import at_equal_length
from dalign.report.intervals import MIN_EXPECTED, Groups
from dalign.report.metrics import Bools, Floats, Rates, chosen_rate, levelled
from dalign.report.permutation import permutation_p
from dalign.report.rows import Row, number
from dalign.select import draws_until_safe


class Draws:
    """The resamples of each set of prompts, made once: they depend on the seed, the benchmark and its groups alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._known: dict[tuple[str, tuple[str, ...]], Groups] = {}

    def of(self, block: Block) -> Groups:
        """The groups of a block's prompts."""
        return self.of_groups(block.cell.benchmark, tuple(block.cell.prompts[i].group for i in block.index_P))

    def of_groups(self, name: str, groups: tuple[str, ...]) -> Groups:
        """The groups of prompts under a name, a benchmark's or another."""
        key = (name, groups)
        if key not in self._known:
            self._known[key] = Groups(groups, [self.seed, crc32(name.encode())])
        return self._known[key]


def measure(block: Block, chosen: Candidates, draws: Draws, world_version: int | None) -> list[Row]:
    """One row a candidate of the block's cell, and one a baseline that peeks at the block's verdicts."""
    own = Candidates(with_own_labels(chosen.rows, block), chosen.weights_RPN[:, block.index_P])
    table, rates = peeking(own, block)
    rows = measured(block, table, rates, draws, world_version)
    by_chance, lengths = permutation_p(table, block, draws.seed), at_equal_length(table, block, draws.of(block))
    return [replace(row, p_permutation=by_chance[i], **lengths.get(i, {})) for i, row in enumerate(rows)]


def with_own_labels(rows: Iterable[Candidate], block: Block) -> tuple[Candidate, ...]:
    """The rows, those marked as peeking that choose by the very means of the block's judge."""
    same = block.cell.reranked_by(block.judge)
    return tuple(replace(row, peeks=True) if row.goes_by in same else row for row in rows)


def measured(block: Block, table: Candidates, rates: Rates, draws: Draws, world_version: int | None) -> list[Row]:
    """The rows of a table over the block's prompts, whose row 0 is ASR@1, with the ``rates`` of its choices."""
    groups = draws.of(block)
    facts = {**_identity(block, groups, world_version), **_shared(block)}
    columns = {
        **_rates(rates, groups, block.good),
        **_comparison(table, rates, groups, block),
        **_finishing(table, groups, block),
        "samples_drawn": _samples_drawn(table, block),
    }
    told_apart = aurocs(table, block, groups)
    rows = []
    for i, candidate in enumerate(table.rows):
        numbers = {name: number(values[i]) for name, values in columns.items()}
        rows.append(_row(candidate, facts, numbers, told_apart.get((candidate.score, candidate.layer), {})))
    return rows


def _row(candidate: Candidate, facts: Mapping[str, Any], numbers: dict[str, Any], auroc: Mapping[str, Any]) -> Row:
    numbers["n_paired"] = int(numbers["n_paired"])
    if float(numbers["n_unscored"]).is_integer():  # fractional only where a choice is shared between samples
        numbers["n_unscored"] = int(numbers["n_unscored"])
    if not candidate.claims:
        numbers["p_value"] = None
    if not candidate.is_choice:
        numbers.update(safe_finished=None, safe_finished_difference=None, difference_from_finished=None)
    if not candidate.require_finished:
        numbers["difference_from_finished"] = None
    return Row(
        **facts,
        **numbers,
        **auroc,
        selector=candidate.selector,
        layer=candidate.layer,
        layer_chosen_on=candidate.layer_chosen_on,
        k=candidate.k,
        peeks=candidate.peeks,
    )


def _identity(block: Block, groups: Groups, world_version: int | None) -> dict[str, Any]:
    config = block.cell.config
    return {
        "run": str(config["run"]),
        "model": str(config["model"]["name"]),
        "teacher": str(config["teacher"]["name"]),
        "policy": block.cell.policy,
        "seed": int(config["seed"]),
        "world_version": world_version,
        "benchmark": block.cell.benchmark,
        "subset": block.subset,
        "n_prompts": groups.n_prompts,
        "n_groups": groups.n_groups,
        "n_samples": block.event_PN.shape[1],
        **control_counts(block.cell, block.index_P),
    }


def _shared(block: Block) -> dict[str, Any]:
    return {
        "metric": block.metric,
        "reading": block.reading,
        "judge": block.judge,
        "judge_kind": block.judge_kind,
        "judge_version": block.cell.judge_versions.get(block.judge),
        "judged": block.judged,
        "protocol": block.cell.protocol,
    }


def _rates(rates: Rates, groups: Groups, good: bool) -> dict[str, Floats]:
    low, high = groups.rate_interval(rates.value)
    floor, ceiling = rates.low.mean(axis=1), rates.high.mean(axis=1)
    return {
        "value": groups.mean(rates.value),
        "ci_low": low,
        "ci_high": high,
        "n_unscored": np.round(rates.unscored.sum(axis=1), 9),
        "value_if_unscored_safe": ceiling if good else floor,
        "value_if_unscored_unsafe": floor if good else ceiling,
    }


def _comparison(table: Candidates, rates: Rates, groups: Groups, block: Block) -> dict[str, Floats]:
    """Paired with ASR@1 (row 0). A row that makes the very same choice has difference 0, no interval and no p-value."""
    paired = ~np.isnan(rates.value)
    base = np.where(paired, rates.value[0], np.nan)
    difference = rates.value - base
    same = _same_choice(table, block.scored_PN)
    low, high = groups.difference_interval(difference)
    baseline, gap = groups.mean(base), groups.mean(difference)
    n_paired = paired.sum(axis=1)
    enough = np.nan_to_num(baseline * n_paired) >= MIN_EXPECTED - 1e-9
    ratio_low, ratio_high = groups.relative_interval(rates.value, base)
    none = same | (n_paired == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(enough, gap / baseline, np.nan)
    vague = none | groups.few_changes(difference)
    return {
        "n_paired": n_paired.astype(float),
        "baseline": baseline,
        "difference": gap,
        "difference_ci_low": np.where(none, np.nan, low),
        "difference_ci_high": np.where(none, np.nan, high),
        "relative_change": relative,
        "relative_change_ci_low": np.where(none, np.nan, ratio_low),
        "relative_change_ci_high": np.where(none, np.nan, ratio_high),
        "p_value": np.where(none, np.nan, groups.sign_flip_p(difference)),
        "smallest_detectable": np.where(vague, np.nan, smallest_detectable(groups.standard_error(difference))),
        "difference_from_finished": groups.mean(rates.value - _finished_rate(block)),
    }


def _same_choice(table: Candidates, scored_PN: Bools) -> Bools:
    """Rows whose choice among the scored samples is the uniform one on every prompt, ASR@1's."""
    level = levelled(table.weights_RPN * scored_PN)
    same = np.all(level == levelled(scored_PN.astype(float)[None]), axis=(1, 2))
    return np.asarray(same & np.array([c.is_choice for c in table.rows]), dtype=bool)


def _finished_rate(block: Block) -> Floats:
    """``(1, P)``: the rate among the finished samples, the comparator of selectors that require it."""
    known = block.scored_PN & block.cell.finished_PN[block.index_P]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((block.amount_PN * known).sum(axis=1)[None] / known.sum(axis=1)[None])


def _finishing(table: Candidates, groups: Groups, block: Block) -> dict[str, Floats]:
    cell, index = block.cell, block.index_P
    finished = cell.finished_PN[index]
    good_PN = block.scored_PN & (block.event_PN == block.good) & finished
    good = chosen_rate(table.weights_RPN, good_PN)
    return {
        "finished_rate": chosen_rate(table.weights_RPN, finished).mean(axis=1),
        "truncated_rate": chosen_rate(table.weights_RPN, cell.truncated_PN[index]).mean(axis=1),
        "empty_rate": chosen_rate(table.weights_RPN, cell.empty_PN[index]).mean(axis=1),
        "safe_finished": good.mean(axis=1),
        "safe_finished_difference": (good - good[0]).mean(axis=1),
    }


def _samples_drawn(table: Candidates, block: Block) -> Floats:
    """How many samples a prompt each row's selector draws, in the mean over the block's prompts."""
    inputs = selector_input(block.cell)
    return np.array(
        [
            draws_until_safe(inputs, inputs.eligible(row.require_finished), row.k)[block.index_P].mean()
            if row.selector == "until_safe"
            else float(row.k)
            for row in table.rows
        ]
    )
