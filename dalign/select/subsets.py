"""Best of k for every k up to n: the weights of a selector's choice among a uniformly random k of the n drawn samples.

Exact for a score, which ranks each sample by itself, and for a vote, which counts them; over all subsets, or seeded
random ones, for what else compares them.

The k samples are drawn first and become eligible or not afterwards, as for a user who draws k. A subset without an
eligible sample is an outcome of its own, "nothing to choose": a prompt's weights then sum to less than 1. Averaged over
all subsets this is the U-statistic of "draw k, choose": unbiased for any k <= n; drawing again with replacement is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from dalign.select.baselines import ballots, rank_until_safe
from dalign.select.inputs import SelectorInput
from dalign.select.rank import Bools, Direction, Floats
from dalign.select.selectors import Selector

ENUMERATED = 16  # up to so many samples every subset is taken: 65,535 of 16
DRAWS = 1000

# The functions of ``SELECTORS`` that rank each sample by itself, as a score does: no subset need be looked at.
RANKS: dict[str, tuple[Callable[[SelectorInput], Floats], Direction]] = {
    "first": (lambda inputs: np.indices(inputs.lengths_PN.shape, dtype=np.float64)[1], "argmin"),
    "random": (lambda inputs: np.zeros(inputs.lengths_PN.shape), "argmin"),
    "shortest": (lambda inputs: inputs.lengths_PN.astype(np.float64), "argmin"),
    "longest": (lambda inputs: inputs.lengths_PN.astype(np.float64), "argmax"),
    "until_safe": (rank_until_safe, "argmin"),
}
# Those that go by which of two sides has more samples: how many each side has in a subset is all that matters.
VOTES: dict[str, Callable[[SelectorInput, Bools], tuple[Bools, Bools]]] = {"refusal_vote": ballots}


@dataclass(frozen=True)
class Subsets:
    """Weights (K, P, N), one layer of the array a k. ``draws`` is the number of random subsets that each prompt's are
    the mean of, None where they are exact."""

    weights_KPN: Floats
    draws: int | None = None


def by_score(scores_PN: Floats, eligible_PN: Bools, drawn_PN: Bools, ks: Sequence[int], direction: Direction) -> Floats:
    """Exact weights (K, P, N) of the best by a score among k of a prompt's n drawn samples, ties shared equally.

    A sample with b better and s equal ones (itself among them) gets ``(C(n-b, k) - C(n-b-s, k)) / (s C(n, k))``: the
    chance that the subset holds one of its equals and none better, shared; each rounded once, from whole numbers.
    Samples that are not eligible, or whose score is NaN, fill places of the subset and are never chosen. For k = n
    these are the weights of ``arg_weights``, for k = 1 1/n each. Raises ``ValueError`` for a k above a prompt's n.
    """
    drawn_n = _drawn(drawn_PN, ks)
    can_PN = eligible_PN & drawn_PN & ~np.isnan(scores_PN)
    cost_PN = np.where(can_PN, scores_PN if direction == "argmin" else -scores_PN, np.inf)
    there, mine, others = can_PN[:, None, :], cost_PN[:, :, None], cost_PN[:, None, :]
    better_PN, equal_PN = ((others < mine) & there).sum(-1), ((others == mine) & there).sum(-1)
    out = np.zeros((len(ks), *scores_PN.shape))
    for n in np.unique(drawn_n).tolist():
        rows = drawn_n == n
        for i, k in enumerate(ks):
            out[i, rows] = np.where(can_PN[rows], _shares(n, k)[better_PN[rows], equal_PN[rows]], 0.0)
    return out


def by_vote(yes_PN: Bools, no_PN: Bools, drawn_PN: Bools, ks: Sequence[int]) -> Floats:
    """Exact weights (K, P, N) of any sample of the side that has more of k of a prompt's n drawn samples, of either
    side at a tie; samples of neither side fill places and are never chosen.

    Of subsets with x of a samples of one side and y of b of the other there are C(a, x) C(b, y) C(n-a-b, k-x-y). The
    one side is chosen from where x > y, and by x / (x + y), one half, where x = y > 0; its a samples share that
    equally. Each weight is rounded once, from whole numbers. Raises ``ValueError`` for a k above a prompt's n.
    """
    drawn_n = _drawn(drawn_PN, ks)
    yes_P, no_P = (yes_PN & drawn_PN).sum(axis=1), (no_PN & drawn_PN).sum(axis=1)
    out = np.zeros((len(ks), *yes_PN.shape))
    for p, (n, a, b) in enumerate(zip(drawn_n.tolist(), yes_P.tolist(), no_P.tolist(), strict=True)):
        for i, k in enumerate(ks):
            ours, theirs = _side_share(n, k, a, b), _side_share(n, k, b, a)
            out[i, p] = np.where(yes_PN[p], ours, np.where(no_PN[p], theirs, 0.0)) * drawn_PN[p]
    return out


def by_function(
    selector: Selector, inputs: SelectorInput, eligible_PN: Bools, ks: Sequence[int], *, seed: int, draws: int = DRAWS
) -> Subsets:
    """Weights of a selector that may compare the samples it is given, averaged over subsets of the drawn ones: all of
    them up to 16 samples a prompt, else ``draws`` random ones of each prompt and k, from ``seed``.

    Raises ``ValueError`` for a k that a prompt cannot give.
    """
    drawn_PN = inputs.exists_PN
    _drawn(drawn_PN, ks)
    enumerated = drawn_PN.shape[1] <= ENUMERATED
    out = np.zeros((len(ks), *drawn_PN.shape))
    for i, k in enumerate(ks):
        found = _every(drawn_PN, k) if enumerated else _random(drawn_PN, k, draws, seed)
        counts_P = np.zeros(len(drawn_PN))
        for subset_PN, counted_P in found:
            out[i] += np.where(counted_P[:, None], selector(inputs, eligible_PN & subset_PN), 0.0)
            counts_P += counted_P
        out[i] /= counts_P[:, None]
    return Subsets(out, None if enumerated else draws)


def at_every_k(
    name: str, selector: Selector, inputs: SelectorInput, eligible_PN: Bools, ks: Sequence[int], *, seed: int
) -> Subsets:
    """The weights of a function of ``SELECTORS``: exact where it ranks each sample by itself, or counts votes."""
    if name in VOTES:
        return Subsets(by_vote(*VOTES[name](inputs, eligible_PN), inputs.exists_PN, ks))
    if name not in RANKS:
        return by_function(selector, inputs, eligible_PN, ks, seed=seed)
    rank, direction = RANKS[name]
    return Subsets(by_score(rank(inputs), eligible_PN, inputs.exists_PN, ks, direction))


def monte_carlo_error(rates_P: Floats, draws: int) -> float:
    """The standard error that ``draws`` random subsets leave in the mean of prompts' rates, in [0, 1]: each prompt's is
    the mean of draws in [0, 1], whose variance is r (1 - r) at most, and just that for choices without ties."""
    known = rates_P[~np.isnan(rates_P)]
    return float(np.sqrt((known * (1 - known)).sum() / draws) / max(len(known), 1))


@lru_cache(maxsize=512)
def _shares(n: int, k: int) -> Floats:
    """``(n + 1, n + 1)``: the weight of a sample of n with b better and s equal ones, at [b, s]; 0 where s is 0."""
    out, every = np.zeros((n + 1, n + 1)), comb(n, k)
    for better in range(n):
        for equal in range(1, n - better + 1):
            holding = comb(n - better, k) - comb(n - better - equal, k)
            out[better, equal] = holding / (every * equal)
    return out


@lru_cache(maxsize=65536)
def _side_share(n: int, k: int, a: int, b: int) -> float:
    """The weight of each of ``a`` samples, of n, on a side that votes against ``b`` others; 0 without any."""
    if a == 0:
        return 0.0
    twice = 0
    for x in range(1, min(a, k) + 1):
        for y in range(min(x, b, k - x) + 1):
            of_these = comb(a, x) * comb(b, y) * comb(n - a - b, k - x - y)
            twice += of_these if x == y else 2 * of_these
    return twice / (2 * a * comb(n, k))


def _drawn(drawn_PN: Bools, ks: Sequence[int]) -> np.ndarray:
    """``(P,)`` how many samples each prompt has."""
    drawn_n = drawn_PN.sum(axis=1)
    fewest = int(drawn_n.min(initial=drawn_PN.shape[1]))
    if bad := [k for k in ks if not 1 <= k <= fewest]:
        raise ValueError(f"k={bad}: prompts have {fewest} drawn samples at least; k must be from 1 to {fewest}")
    return np.asarray(drawn_n)


def _every(drawn_PN: Bools, k: int) -> Iterator[tuple[Bools, Bools]]:
    """Every k of the N columns as (subset (P, N), the prompts (P,) that have drawn all of it)."""
    for chosen in combinations(range(drawn_PN.shape[1]), k):
        subset_PN = np.zeros_like(drawn_PN)
        subset_PN[:, chosen] = True
        yield subset_PN, np.asarray(drawn_PN[:, chosen].all(axis=1))


def _random(drawn_PN: Bools, k: int, draws: int, seed: int) -> Iterator[tuple[Bools, Bools]]:
    """``draws`` times a random k of each prompt's drawn samples, the prompts' independent."""
    rng = np.random.default_rng([seed, k])
    for _ in range(draws):
        keys_PN = np.where(drawn_PN, rng.random(drawn_PN.shape), 2.0)
        subset_PN = np.zeros_like(drawn_PN)
        np.put_along_axis(subset_PN, np.argpartition(keys_PN, k - 1, axis=1)[:, :k], True, axis=1)
        yield subset_PN, np.ones(len(drawn_PN), dtype=bool)
