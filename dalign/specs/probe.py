"""Which probes there are: how one is fitted, whose states it reads and where; each has a name that says so.

The plain one (logistic, the base's states, where attribution reads) is the score ``probe``; every other one is
``probe:METHOD-INPUT-POOLING``. What no label was fitted to is no P(unsafe), and is called ``METHOD:INPUT-POOLING``.
"""

from __future__ import annotations

from itertools import product
from typing import Literal, NamedTuple, get_args

Fit = Literal["logistic", "class_means", "conditional"]
Method = Literal["logistic", "class_means", "conditional", "refusal_direction"]
Input = Literal["base", "student", "difference"]
Pooling = Literal["prompt", "content", "eos", "mean"]
Baseline = Literal["length", "ending", "words"]

PLAIN = "probe"
PREFIX = f"{PLAIN}:"
DIRECTION: Literal["refusal_direction"] = "refusal_direction"


class Variant(NamedTuple):
    """One probe of a set. ``difference`` is the student's state less the base's; ``prompt`` the prompt's last token."""

    method: Method
    input: Input
    pooling: Pooling

    @property
    def name(self) -> str:
        """The name of its file, and the part of a fitted one's score behind ``probe:``."""
        return "-".join(self)

    @property
    def score(self) -> str:
        """The name of its score, unless it is the plain one."""
        return f"{DIRECTION}:{self.input}-{self.pooling}" if self.method == DIRECTION else PREFIX + self.name


def variant_of(score: str, position: Pooling) -> Variant | None:
    """The probe whose score is called ``score``, ``probe`` read at ``position``; None if it is none of a probe."""
    if score == PLAIN:
        return Variant("logistic", "base", position)
    every = product(get_args(Method), get_args(Input), get_args(Pooling))
    return next((v for v in map(Variant._make, every) if score == v.score), None)
