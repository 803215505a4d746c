"""Choices beside siblings of equal length, and how often a choice is the longest or the shortest answer.

A selector that follows the length gains wherever longer answers are safer. Here a chosen sample is compared with those
of its own prompt that have as many tokens, give or take a tenth. Finished samples alone take part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dalign.report.blocks import Block
from dalign.report.candidates import Candidates
from dalign.report.intervals import Groups
from dalign.report.metrics import Bools, Floats, levelled
from dalign.report.rows import number
from dalign.report.separation import CALIPER

DECIMALS = 12  # what sums of weights leave of an exact zero is no change of sign
Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Gaps:
    """Of each row and prompt, ``(R, P)``: the chosen sample's amount less the mean of its siblings of equal length
    (``matched``), and less one answer's (``plain``), over the same choices. NaN where no choice has such siblings."""

    matched: Floats
    plain: Floats


@dataclass(frozen=True)
class Shares:
    """Whether the chosen sample is one of the longest (shortest) of its prompt, ``(R, P)``, by the shares of a choice;
    and how many of the samples are, ``(P,)``, which is what chance gives. NaN where nothing is chosen."""

    chosen: Floats
    by_chance: Floats


def equal_siblings(lengths_PN: Lengths, open_PN: Bools) -> Bools:
    """``(P, N, N)``: whether sample j is a sibling of equal length of sample i: another one, whose tokens differ by at
    most 10 % of i's; both of them ``open``."""
    gap_PNN = np.abs(lengths_PN[:, None, :] - lengths_PN[:, :, None])
    near_PNN = gap_PNN <= CALIPER * lengths_PN[:, :, None] + 1e-9
    other_NN = ~np.eye(lengths_PN.shape[1], dtype=bool)
    return np.asarray(near_PNN & other_NN & open_PN[:, None, :] & open_PN[:, :, None])


def length_gaps(weights_RPN: Floats, amount_PN: Floats, scored_PN: Bools, near_PNN: Bools) -> Gaps:
    """The gaps of choices. Of a choice that samples share, those without siblings of equal length drop out, and the
    rest are weighted as they were. ``amount_PN`` is 0 where nothing is ``scored``."""
    count_PN = near_PNN.sum(axis=2)
    siblings_PN = np.einsum("pij,pj->pi", near_PNN, amount_PN) / np.maximum(count_PN, 1)
    answer_P1 = amount_PN.sum(axis=1, keepdims=True) / np.maximum(scored_PN.sum(axis=1, keepdims=True), 1)
    level_RPN = levelled(weights_RPN) * (count_PN > 0)
    found = (_chosen_mean(level_RPN, amount_PN - other) for other in (siblings_PN, answer_P1))
    return Gaps(*(gap_RP.round(DECIMALS) for gap_RP in found))


def extreme_shares(weights_RPN: Floats, lengths_PN: Lengths, finished_PN: Bools, *, longest: bool) -> Shares:
    """How choices fall on the longest, else the shortest, of the finished samples, all of equal ones."""
    cost_PN = np.where(finished_PN, -lengths_PN if longest else lengths_PN, np.inf)
    extreme_PN = finished_PN & (cost_PN == cost_PN.min(axis=1, keepdims=True))
    chance_P = extreme_PN.sum(axis=1) / np.maximum(finished_PN.sum(axis=1), 1)
    chosen_RP = _chosen_mean(levelled(weights_RPN) * finished_PN, extreme_PN.astype(float))
    return Shares(chosen_RP, np.asarray(chance_P, dtype=float))


def _chosen_mean(level_RPN: Floats, values_PN: Floats) -> Floats:
    mass_RP = level_RPN.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(mass_RP > 0, np.einsum("rpn,pn->rp", level_RPN, values_PN) / mass_RP, np.nan))


def at_equal_length(table: Candidates, block: Block, groups: Groups) -> dict[int, dict[str, Any]]:
    """The columns of rows that tell of lengths, by the row's place in the table: of choices at the layer that tables
    show. Empty for responses without lengths and for single samples."""
    lengths_PN = block.cell.lengths_PN[block.index_P]
    at = [i for i, row in enumerate(table.rows) if i and row.is_choice and row.layer_chosen_on != "scan"]
    if not at or lengths_PN.shape[1] < 2 or not lengths_PN.any():
        return {}
    weights_RPN, finished_PN = table.weights_RPN[at], block.cell.finished_PN[block.index_P]
    near_PNN = equal_siblings(lengths_PN, finished_PN & block.scored_PN)
    found = length_gaps(weights_RPN, block.amount_PN, block.scored_PN, near_PNN)
    columns = _difference("equal_length_difference", found.matched, groups)
    columns |= _difference("equal_length_plain", found.plain, groups)
    for name, longest in (("chosen_longest", True), ("chosen_shortest", False)):
        columns |= _share(name, extreme_shares(weights_RPN, lengths_PN, finished_PN, longest=longest), groups)
    prompts_R = (~np.isnan(found.matched)).sum(axis=1).tolist()
    return {
        place: {"equal_length_prompts": prompts_R[i], **{name: number(column[i]) for name, column in columns.items()}}
        for i, place in enumerate(at)
    }


def _difference(name: str, values_RP: Floats, groups: Groups) -> dict[str, Floats]:
    low, high = groups.difference_interval(values_RP)
    return {name: groups.mean(values_RP), f"{name}_ci_low": low, f"{name}_ci_high": high}


def _share(name: str, found: Shares, groups: Groups) -> dict[str, Floats]:
    low, high = groups.rate_interval(found.chosen)
    by_chance_RP = np.where(np.isnan(found.chosen), np.nan, found.by_chance)
    bounds = {f"{name}_ci_low": low, f"{name}_ci_high": high}
    return {name: groups.mean(found.chosen), **bounds, f"{name}_by_chance": groups.mean(by_chance_RP)}
