"""How far a risk may go for an answer to be given: conformal risk control, and Learn-then-Test (pure functions).

Both count groups of prompts, the exchangeable unit. Arrays are ``_P`` prompts: the risk of the chosen sample (NaN where
there is none: never answered), and whether answering would be ``bad`` (an event, or nothing known of it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from dalign.select.rank import Bools, Floats

ANSWER_ALL = 1.0  # a risk is a probability
Procedure = Literal["bonferroni", "fixed_sequence"]


def groups_needed(alpha: float) -> int:
    """The fewest groups with which any answer can be allowed: the least n with 1 / (n + 1) <= ``alpha``."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def risk_control(risk_P: Floats, bad_P: Bools, groups: Sequence[str], alpha: float) -> float | None:
    """The largest limit lambda with (n R(lambda) + 1) / (n + 1) <= ``alpha``; None where there is none.

    R is the mean over the n groups of the share of a group's prompts that are answered (risk <= lambda) and bad. For a
    group exchangeable with these, and a choice and a risk that know nothing of any of them, the expected share is at
    most ``alpha`` (Angelopoulos et al., arXiv 2208.02814, theorem 1, with losses in [0, 1]).
    """
    index_P, n = _numbered(groups)
    share_P = np.where(bad_P, 1 / np.bincount(index_P, minlength=n)[index_P], 0.0)
    order = np.argsort(risk_P, kind="stable")[: int((~np.isnan(risk_P)).sum())]
    total = np.cumsum(share_P[order])
    allowed = (total + 1) / (n + 1) <= alpha + 1e-12
    last = np.append(np.diff(risk_P[order]) > 0, True)[: len(order)]  # of equal risks all are answered or none is
    found = np.flatnonzero(allowed & last)
    if 1 / (n + 1) > alpha + 1e-12 or (len(order) and not len(found)):
        return None
    return ANSWER_ALL if len(found) == 0 or found[-1] == len(order) - 1 else float(risk_P[order[found[-1]]])


def learn_then_test(
    risk_P: Floats,
    bad_P: Bools,
    groups: Sequence[str],
    alpha: float,
    *,
    delta: float,
    grid: Sequence[float],
    procedure: Procedure = "bonferroni",
) -> float | None:
    """The largest limit of ``grid`` at which, of the groups that are answered at all, at most ``alpha`` have a bad
    answer; None where none is shown to. With probability 1 - ``delta`` over the groups here, what is returned holds.

    Each limit is tested by an exact binomial test over groups (Angelopoulos et al., arXiv 2110.01052): all of them at
    ``delta`` / m, or in the order of ``grid`` at ``delta`` until one fails. ``grid`` must not know these prompts.
    """
    passed = []
    for limit in grid:
        p = binomial_p(*answered_groups(risk_P, bad_P, groups, limit), alpha)
        if p <= (delta if procedure == "fixed_sequence" else delta / len(grid)):
            passed.append(float(limit))
        elif procedure == "fixed_sequence":
            break
    return max(passed, default=None)


def answered_groups(risk_P: Floats, bad_P: Bools, groups: Sequence[str], limit: float) -> tuple[int, int]:
    """How many groups have a bad answer, and how many any answer, at a limit."""
    index_P, _ = _numbered(groups)
    answered_P = risk_P <= limit
    bad, answered = (len(np.unique(index_P[rows])) for rows in (answered_P & bad_P, answered_P))
    return bad, answered


def binomial_p(bad: int, n: int, alpha: float) -> float:
    """The chance of so few bad ones of ``n`` if their share were just above ``alpha``; 1 where n is 0."""
    return float(binom.cdf(bad, n, alpha)) if n else 1.0


def _numbered(groups: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    return np.array([number[name] for name in groups], dtype=np.int64), len(number)
