"""Which texts share an n-gram of words: the usual check of a training set against a benchmark (arXiv 2005.14165, C).

Words are runs of letters and digits, lower-cased; punctuation is off. A text of fewer than n words has no n-gram, and
so shares none: such rows are counted apart, since nothing is known of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

N = 8
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Overlap:
    """``shared[i]`` holds the indices of the training texts that share an n-gram with benchmark text i, ascending;
    ``too_short`` the indices of the benchmark texts that have no n-gram."""

    shared: tuple[tuple[int, ...], ...]
    too_short: tuple[int, ...]


def words(text: str) -> list[str]:
    """The text's words, lower-cased, without punctuation: ``"Don't stop!"`` is don, t, stop."""
    return _WORD.findall(text.casefold())


def ngrams(text: str, n: int = N) -> set[str]:
    """The runs of ``n`` consecutive words of a text, each joined by blanks; none if it has fewer words.

    Raises ``ValueError`` for ``n`` below 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: an n-gram has at least one word")
    found = words(text)
    return {" ".join(found[i : i + n]) for i in range(len(found) - n + 1)}


def overlap(training: Sequence[str], benchmark: Sequence[str], n: int = N) -> Overlap:
    """Which of the texts of ``benchmark`` share at least one n-gram with which of ``training``.

    Only the benchmark's n-grams are held in memory at once. Raises ``ValueError`` for ``n`` below 1.
    """
    holders: dict[str, list[int]] = {}
    too_short = []
    for i, text in enumerate(benchmark):
        grams = ngrams(text, n)
        if not grams:
            too_short.append(i)
        for gram in grams:
            holders.setdefault(gram, []).append(i)
    shared: list[list[int]] = [[] for _ in benchmark]
    for t, text in enumerate(training):
        for i in {i for gram in ngrams(text, n) for i in holders.get(gram, ())}:
            shared[i].append(t)
    return Overlap(tuple(tuple(found) for found in shared), tuple(too_short))
