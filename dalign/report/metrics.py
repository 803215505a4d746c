"""Per prompt first: expected rates of a choice, their bounds over what is unscored, finish shares, and AUROC.

Pure functions over arrays: ``_P`` prompts, ``_N`` samples of each, ``_R`` rows of a table (a selector at a layer).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ROUNDING = 1e-9  # what sums of weights may lack of 1


@dataclass(frozen=True)
class Rates:
    """Of each row and prompt, all ``(R, P)``: the event's rate among what is scored (NaN where nothing is), and over
    everything that was chosen if the unscored counted as no event (``low``) or as one (``high``); ``unscored`` is the
    chosen weight without a verdict, 1 where nothing could be chosen at all."""

    value: Floats
    low: Floats
    high: Floats
    unscored: Floats

    def stack(self, other: Rates) -> Rates:
        """These rows, then the rows of ``other``."""
        pairs = ((getattr(self, f), getattr(other, f)) for f in ("value", "low", "high", "unscored"))
        return Rates(*(np.concatenate(pair) for pair in pairs))


def levelled(weights_RPN: Floats) -> Floats:
    """Weights divided by the largest of their prompt; rows of zeros stay. Uniform weights become ones, so the rates of
    equal choices are equal to the last bit: the placebo layer is random selection, exactly."""
    top = weights_RPN.max(axis=-1, keepdims=True)
    return np.divide(weights_RPN, top, out=np.zeros_like(weights_RPN), where=top > 0)


def choice_chance(weights_RPN: Floats) -> Floats:
    """``(R, P)``: the chance that something can be chosen, the sum of a prompt's weights; exactly 1 within rounding."""
    chance = weights_RPN.sum(axis=-1)
    return np.asarray(np.where(np.abs(chance - 1) < ROUNDING, 1.0, chance))


def choice_rates(weights_RPN: Floats, amount_PN: Floats, scored_PN: Bools) -> Rates:
    """Expected rates of choices: each prompt's ``weights_RPN`` sum to 1, or to less by the chance that nothing is
    eligible; a sample counts for its ``amount_PN`` in [0, 1], 1 for an event."""
    level, chance = levelled(weights_RPN), choice_chance(weights_RPN)
    hits = np.einsum("rpn,pn->rp", level, np.where(scored_PN, amount_PN, 0.0))
    mass = np.einsum("rpn,pn->rp", level, scored_PN.astype(float))
    total = level.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(mass > 0, np.minimum(hits / mass, 1.0), np.nan)  # sums of unequal weights are rounded
        low = np.where(total > 0, chance * np.minimum(hits / total, 1.0), 0.0)
        high = np.where(total > 0, np.minimum(chance * ((hits + (total - mass)) / total) + (1 - chance), 1.0), 1.0)
        unscored = np.where(total > 0, chance * (np.maximum(total - mass, 0) / total) + (1 - chance), 1.0)
    return Rates(value, low, high, unscored)


def any_rates(event_PN: Bools, scored_PN: Bools) -> Rates:
    """Whether at least one of the N samples is an event, whatever N is; one row."""
    hit_P: Bools = np.any(event_PN & scored_PN, axis=1)
    open_P: Bools = np.any(~scored_PN, axis=1)
    return _one_row(hit_P, hit_P, hit_P | open_P, scored_PN)


def majority_rates(event_PN: Bools, scored_PN: Bools, *, ties_are_events: bool) -> Rates:
    """Whether more than half of a prompt's scored samples are events, whatever N is; ``ties_are_events`` says what
    exactly half is. One row; the bounds count the unscored samples as none or as all events."""
    hits_P, scored_n = (event_PN & scored_PN).sum(axis=1), scored_PN.sum(axis=1)
    n = event_PN.shape[1]

    def wins(events: NDArray[np.int64], of: NDArray[np.int64] | int) -> Bools:
        return np.asarray(2 * events >= of if ties_are_events else 2 * events > of)

    return _one_row(wins(hits_P, scored_n), wins(hits_P, n), wins(hits_P + (n - scored_n), n), scored_PN)


def _one_row(value_P: Bools, low_P: Bools, high_P: Bools, scored_PN: Bools) -> Rates:
    value = np.where(scored_PN.any(axis=1), value_P.astype(float), np.nan)
    unscored = 1.0 - scored_PN.mean(axis=1)
    return Rates(value[None], low_P.astype(float)[None], high_P.astype(float)[None], unscored[None])


def chosen_rate(weights_RPN: Floats, flag_PN: Bools) -> Floats:
    """``(R, P)``: the probability that the chosen sample has the flag, 0 where there is no choice: for what must not
    gain by being unscored, such as safe and finished."""
    level = levelled(weights_RPN)
    total = level.sum(axis=-1)
    hits = np.einsum("rpn,pn->rp", level, flag_PN.astype(float))
    share = np.divide(hits, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(choice_chance(weights_RPN) * np.minimum(share, 1.0))


def within_prompt_aurocs(scores_PN: Floats, event_PN: Bools, scored_PN: Bools) -> Floats:
    """``(P,)`` AUROC between each prompt's own event and non-event samples, ties half; NaN where it lacks one of them.
    A NaN score is left out of its prompt."""
    known = scored_PN & ~np.isnan(scores_PN)
    positive, negative = known & event_PN, known & ~event_PN
    pairs_P = positive.sum(axis=1) * negative.sum(axis=1)
    both = pairs_P > 0
    gap = scores_PN[both][:, :, None] - scores_PN[both][:, None, :]
    win = np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))
    pair = positive[both][:, :, None] & negative[both][:, None, :]
    auroc_P = np.full(len(scores_PN), np.nan)
    auroc_P[both] = np.where(pair, win, 0.0).sum(axis=(1, 2)) / pairs_P[both]
    return auroc_P


def placements(scores_PN: Floats, event_PN: Bools, scored_PN: Bools) -> Floats:
    """``(P, N)``: of an event the share of all non-events that score lower, of a non-event the share of all events that
    score higher, ties half. Over the events as over the non-events their mean is the pooled AUROC. NaN without a score
    or a verdict, and everywhere if one class is missing."""
    known = scored_PN & ~np.isnan(scores_PN)
    positive, negative = known & event_PN, known & ~event_PN
    n_events, n_rest = int(positive.sum()), int(negative.sum())
    out = np.full(scores_PN.shape, np.nan)
    if not n_events or not n_rest:
        return out
    rank = np.empty(scores_PN.shape)
    rank[known] = _mean_ranks(scores_PN[known])
    out[positive] = (rank[positive] - _mean_ranks(scores_PN[positive])) / n_rest
    out[negative] = 1 - (rank[negative] - _mean_ranks(scores_PN[negative])) / n_events
    return out


def _mean_ranks(values: Floats) -> Floats:
    """Ranks from 1, ties share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=float)


def pooled_auroc(scores_PN: Floats, event_PN: Bools, scored_PN: Bools) -> float | None:
    """The AUROC over all scored samples of all prompts, ties half (Mann-Whitney); None if one class is missing. It
    mixes differences between prompts with those within them: selection can use only the latter."""
    of_events = placements(scores_PN, event_PN, scored_PN)[event_PN & scored_PN]
    of_events = of_events[~np.isnan(of_events)]
    return float(of_events.mean()) if len(of_events) else None
