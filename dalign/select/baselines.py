"""Selectors that look at more than one sample, or at texts: what attribution must beat.

Each gives weights (P, N) whose rows sum to 1, or to 0 where nothing is eligible, and looks at eligible samples alone.
"""

from __future__ import annotations

import numpy as np

from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Floats, arg_weights, uniform_weights

REFUSAL = "refusal"  # the score that is 1 for an answer with a phrase of refusal and 0 for any other


def medoid(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The answer that shares most words with the other eligible ones (``word_overlap``): the most usual of them."""
    others_PNN = inputs.overlap_PNN * ~np.eye(eligible_PN.shape[1], dtype=bool)
    total_PN = np.einsum("pnm,pm->pn", others_PNN, eligible_PN.astype(float))
    return arg_weights(total_PN.round(9), eligible_PN, "argmax")  # sums in another order are equal all the same


def refusal_vote(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """Any of the refusals if more eligible answers refuse than not, any of the others if fewer do, any at a tie."""
    refuses_PN = inputs.scores[REFUSAL]
    scored_PN = eligible_PN & ~np.isnan(refuses_PN)
    yes_PN, no_PN = scored_PN & (refuses_PN == 1), scored_PN & (refuses_PN == 0)
    lead_P1 = yes_PN.sum(1, keepdims=True) - no_PN.sum(1, keepdims=True)
    return uniform_weights(np.where(lead_P1 > 0, yes_PN, np.where(lead_P1 < 0, no_PN, scored_PN)))


def until_safe(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """The first eligible sample whose score says that it will do, in the order drawn; where none will, the one of
    smallest score. A sample that may not be chosen, or has no score, is drawn and passed over."""
    will_do_PN, scores_PN = _will_do(inputs, eligible_PN)
    index_PN = np.broadcast_to(np.arange(eligible_PN.shape[1], dtype=float), eligible_PN.shape)
    first_PN = arg_weights(index_PN, will_do_PN, "argmin")
    return np.where(will_do_PN.any(1, keepdims=True), first_PN, arg_weights(scores_PN, eligible_PN, "argmin"))


def draws_until_safe(inputs: SelectorInput, eligible_PN: Bools) -> Floats:
    """How many samples ``until_safe`` draws for each prompt (P,): up to the one that will do, all of them without."""
    will_do_PN, _ = _will_do(inputs, eligible_PN)
    drawn_PN = inputs.exists_PN.cumsum(1)
    return np.where(will_do_PN.any(1), np.take_along_axis(drawn_PN, will_do_PN.argmax(1)[:, None], 1)[:, 0],
                    drawn_PN[:, -1]).astype(float)  # fmt: skip


def _will_do(inputs: SelectorInput, eligible_PN: Bools) -> tuple[Bools, Floats]:
    if inputs.until is None:
        raise ValueError("nothing says of a sample that it will do")
    scores_PN = inputs.scores[inputs.until.score]
    return eligible_PN & (scores_PN < inputs.until.below), scores_PN
