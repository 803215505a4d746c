"""Permutation of verdicts within a prompt: is a choice by a score better than a choice that knows nothing?

Null hypothesis: among the samples of a prompt that could be chosen and have a verdict, the verdicts are exchangeable,
whatever the score says. Choices, finish flags and missing verdicts stay as they are; the verdicts of each prompt change
places, every prompt by itself. Exact for one fixed selector and layer; jointly over layers for the best of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, lcm
from zlib import crc32

import numpy as np

from dalign.report.blocks import Block
from dalign.report.candidates import BEST_LAYER, Candidate, Candidates
from dalign.report.metrics import Bools, Floats

PERMUTATIONS = 9999
LATTICE = 2_000_000  # places of a distribution that is still computed in whole: beyond it, permutations are drawn
PART = 500  # permutations held at a time
EQUAL = 1e-12  # rates that differ by no more than rounding are as far out


@dataclass(frozen=True)
class Tails:
    """The chances, under the null, of a rate as low and as high as the one seen or further out."""

    lower: float
    upper: float

    @property
    def two_sided(self) -> float:
        """Twice the smaller tail, at most 1: never smaller than it may be."""
        return min(1.0, 2 * min(self.lower, self.upper))


def exact_tails(chosen_PN: Bools, event_PN: Bools, free_PN: Bools) -> Tails | None:
    """The tails of the sum over prompts of the events' share among what was chosen, ``chosen_PN`` (more than one where
    scores tie), when the verdicts of the samples ``free_PN`` change places within their prompt.

    A prompt's number of chosen events is hypergeometric; the sum is convolved prompt by prompt in units of 1 over the
    least common multiple of the ties. None where nothing can vary, or the ties make that too fine.
    """
    parts = [
        (int(m), int(c), int(s), int(h))
        for m, c, s, h in zip(
            free_PN.sum(axis=1),
            (event_PN & free_PN).sum(axis=1),
            (chosen_PN & free_PN).sum(axis=1),
            (chosen_PN & event_PN & free_PN).sum(axis=1),
            strict=True,
        )
        if 0 < c < m and 0 < s < m  # else every order of the verdicts gives the same share
    ]
    unit = lcm(*(s for _, _, s, _ in parts))
    if not parts or unit * len(parts) > LATTICE:
        return None
    chance, seen = np.ones(1), 0
    for m, c, s, h in parts:
        step, wider = unit // s, np.zeros(len(chance) + unit)
        for hits in range(max(0, s - (m - c)), min(s, c) + 1):
            share = comb(c, hits) * comb(m - c, s - hits) / comb(m, s)
            wider[hits * step : hits * step + len(chance)] += share * chance
        chance, seen = wider, seen + h * step
    return Tails(min(float(chance[: seen + 1].sum()), 1.0), min(float(chance[seen:].sum()), 1.0))


def drawn_tails(
    families: Sequence[Floats], event_PN: Bools, scored_PN: Bools, free_PN: Bools, seed: Sequence[int]
) -> list[Tails | None]:
    """Of each family of choices, weights (L, P, N) such as the layers of a score, the tails of its lowest and of its
    highest rate, when the verdicts of ``free_PN`` change places within their prompt, the same way for all choices.

    Monte Carlo; the order as it is counts as one of the permutations, so that no p-value is 0. None where nothing can
    vary.
    """
    hits_P, m_P = (event_PN & free_PN).sum(axis=1), free_PN.sum(axis=1)
    mixed = (hits_P > 0) & (hits_P < m_P)
    free, hits, now = free_PN[mixed], hits_P[mixed], (event_PN & free_PN)[mixed].ravel()
    tables, still, counts = [], [], np.zeros((len(families), 2))
    for weights_LPN in families:
        share_LPN = _shares(weights_LPN, scored_PN)
        tables.append(np.where(free, share_LPN[:, mixed], 0.0).reshape(len(share_LPN), -1))
        still.append((share_LPN * event_PN).sum(axis=(1, 2)) - tables[-1] @ now)
    moving = [_varies(table.reshape(len(table), *free.shape), free) for table in tables]
    rng = np.random.default_rng(list(seed))
    for start in range(0, PERMUTATIONS if any(moving) else 0, PART):
        events = _permuted(free, hits, min(PART, PERMUTATIONS - start), rng)
        events_BX = events.reshape(len(events), -1)
        for i, (table, rest_L) in enumerate(zip(tables, still, strict=True)):
            seen_L, drawn_BL = rest_L + table @ now, rest_L + events_BX @ table.T
            counts[i, 0] += (drawn_BL.min(axis=1) <= seen_L.min() + EQUAL).sum()
            counts[i, 1] += (drawn_BL.max(axis=1) >= seen_L.max() - EQUAL).sum()
    chances = (1 + counts) / (1 + PERMUTATIONS)
    return [Tails(*map(float, pair)) if known else None for pair, known in zip(chances, moving, strict=True)]


def permutation_p(table: Candidates, block: Block, seed: int) -> list[float | None]:
    """Of each row a p-value, None where it means nothing: two-sided for a choice at a fixed layer; one-sided for the
    best layer of a selector, that the best of as many layers does so well by chance."""
    if not block.counts or block.subset != "all":
        return [None] * len(table.rows)
    draws = [seed, crc32(block.cell.benchmark.encode()), 2]
    found = [_fixed(row, table.weights_RPN[i], block, draws) for i, row in enumerate(table.rows)]
    best = {i: _layers_of(row, table) for i, row in enumerate(table.rows) if row.selector.startswith(BEST_LAYER)}
    if best:
        free = np.all([_free(table.rows[j], block) for layers in best.values() for j in layers], axis=0)
        families = [table.weights_RPN[layers] for layers in best.values()]
        for i, tails in zip(best, drawn_tails(families, block.event_PN, block.scored_PN, free, draws), strict=True):
            found[i] = None if tails is None else tails.upper if block.good else tails.lower
    return found


def _layers_of(best: Candidate, table: Candidates) -> list[int]:
    name = best.selector.removeprefix(BEST_LAYER)
    return [i for i, row in enumerate(table.rows) if row.selector == name and not row.peeks]


def _fixed(row: Candidate, weights_PN: Floats, block: Block, seed: Sequence[int]) -> float | None:
    if row.peeks or not row.is_choice or row.selector == "mean":
        return None
    free = _free(row, block)
    even = np.where(weights_PN > 0, weights_PN.max(axis=1, keepdims=True), 0.0)
    tails = exact_tails(weights_PN > 0, block.event_PN, free) if np.allclose(weights_PN, even) else None
    if tails is None:
        (tails,) = drawn_tails([weights_PN[None]], block.event_PN, block.scored_PN, free, seed)
    return None if tails is None else tails.two_sided


def _free(row: Candidate, block: Block) -> Bools:
    """The samples whose verdicts may change places: those that the row could have chosen, and that have a verdict."""
    cell, index = block.cell, block.index_P
    free = block.scored_PN & (cell.finished_PN[index] | (not row.require_finished))
    if row.score is None:
        return np.asarray(free)
    scores = cell.scores[row.score][index]
    return np.asarray(free & ~np.isnan(scores if row.layer is None else scores[:, :, row.layer]))


def _shares(weights_LPN: Floats, scored_PN: Bools) -> Floats:
    """What each sample's event adds to a row's rate: its part of the scored weight, over the prompts that have any."""
    mass = np.where(scored_PN, weights_LPN, 0.0)
    total = mass.sum(axis=2, keepdims=True)
    part = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)
    return np.asarray(part / np.maximum((total > 0).sum(axis=1, keepdims=True), 1))


def _varies(share_LPN: Floats, free_PN: Bools) -> bool:
    """Whether any order of the verdicts changes any rate: somewhere the free samples of a prompt weigh differently."""
    high = np.where(free_PN, share_LPN, -np.inf).max(axis=2, initial=-np.inf)
    low = np.where(free_PN, share_LPN, np.inf).min(axis=2, initial=np.inf)
    return bool((high > low + 1e-15).any())


def _permuted(free_PN: Bools, hits_P: np.ndarray, draws: int, rng: np.random.Generator) -> Floats:
    """``(B, P, N)``: each prompt's number of events, put on random free samples: those of the smallest random keys."""
    keys = np.where(free_PN, rng.random((draws, *free_PN.shape)), 2.0)
    last = np.take_along_axis(
        np.sort(keys, axis=2), np.broadcast_to(hits_P[None, :, None] - 1, (draws, len(hits_P), 1)), 2
    )
    return (keys <= last).astype(np.float64)
