"""Selectors that look at more than one sample, or at texts: what attribution must beat.

Each gives weights (P, N) whose rows sum to 1, or to 0 where nothing is eligible, and looks at eligible samples alone.
"""

from __future__ import annotations

from math import comb

import numpy as np

from dalign.select.inputs import SelectorInput, Until
from dalign.select.rank import Bools, Floats, arg_weights, uniform_weights

REFUSAL = "refusal"  # the score that is 1 for an answer with a phrase of refusal and 0 for any other


def medoid(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The answer that shares most words with the other eligible ones (``word_overlap``): the most usual of them."""
    total_PN = (inputs.overlap_PNN @ eligible_PN[..., None].astype(float))[..., 0]  # each with itself, 1, as well
    return arg_weights(total_PN.round(9), eligible_PN, "argmax")  # sums in another order are equal all the same


def refusal_vote(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """Any of the refusals if more eligible answers refuse than not, any of the others if fewer do, any at a tie."""
    yes_PN, no_PN = ballots(inputs, eligible_PN)
    lead_P1 = yes_PN.sum(1, keepdims=True) - no_PN.sum(1, keepdims=True)
    return uniform_weights(np.where(lead_P1 > 0, yes_PN, np.where(lead_P1 < 0, no_PN, yes_PN | no_PN)))


def ballots(inputs: SelectorInput, eligible_PN: Bools) -> tuple[Bools, Bools]:
    """Which eligible answers refuse and which do not; one without the score is neither."""
    refuses_PN = inputs.scores[REFUSAL]
    return eligible_PN & (refuses_PN == 1), eligible_PN & (refuses_PN == 0)


def until_safe(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The first eligible sample whose score says that it will do, in the order drawn; where none will, the one of
    smallest score. A sample that may not be chosen, or has no score, is drawn and passed over."""
    will_do_PN, scores_PN = _will_do(inputs, eligible_PN)
    index_PN = np.broadcast_to(np.arange(eligible_PN.shape[1], dtype=float), eligible_PN.shape)
    first_PN = arg_weights(index_PN, will_do_PN, "argmin")
    return np.where(will_do_PN.any(1, keepdims=True), first_PN, arg_weights(scores_PN, eligible_PN, "argmin"))


def draws_until_safe(inputs: SelectorInput, eligible_PN: Bools, k: int | None = None) -> Floats:
    """How many samples ``until_safe`` draws for each prompt (P,): up to the one that will do, all of them without.

    Of a random k of a prompt's n samples, kept in the order drawn, the mean over all such choices; k is n by default. A
    sample that will do, after ``a`` that will not and ``w`` that will, stops in ``C(n-1-w, k-1)`` of them; it is then
    the ``1 + a C(n-2-w, k-2) / C(n-1-w, k-1)``th in the mean.
    """
    will_do_PN, _ = _will_do(inputs, eligible_PN)
    out = np.zeros(len(will_do_PN))
    for p, (will_do_N, drawn_N) in enumerate(zip(will_do_PN, inputs.exists_PN, strict=True)):
        stops = np.flatnonzero(will_do_N[drawn_N]).tolist()
        n = int(drawn_N.sum())
        m = n if k is None else k
        total = m * comb(n - len(stops), m)
        for w, at in enumerate(stops):
            total += comb(n - 1 - w, m - 1) + (at - w) * (comb(n - 2 - w, m - 2) if m > 1 and w < n - 1 else 0)
        out[p] = total / comb(n, m)
    return out


def rank_until_safe(inputs: SelectorInput) -> Floats:
    """What ``until_safe`` takes the smallest of among whatever may be chosen (P, N): below 0 and in the order drawn
    what will do, from 0 on what will not, NaN without a score."""
    will_do_PN, scores_PN = _will_do(inputs, inputs.exists_PN)
    index_PN = np.indices(scores_PN.shape, dtype=np.float64)[1]
    return np.where(will_do_PN, index_PN - scores_PN.shape[1], scores_PN - _until(inputs).below)


def _will_do(inputs: SelectorInput, eligible_PN: Bools) -> tuple[Bools, Floats]:
    until = _until(inputs)
    scores_PN = inputs.scores[until.score]
    return eligible_PN & (scores_PN < until.below), scores_PN


def _until(inputs: SelectorInput) -> Until:
    if inputs.until is None:
        raise ValueError("nothing says of a sample that it will do")
    return inputs.until
