"""A guard's reply as a tree of fixed words: which ids to run, and how probabilities at them become P(unsafe).

``Harmful request: yes`` ... ``Harmful response: no``: each line ends in one of two words, the last is the verdict. The
probability of a verdict is the sum over all ways to it, so nothing is sampled and nothing can fail to parse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from dalign.encoding import Encoder, Piece
from dalign.errors import ModelError
from dalign.judge.batches import Row
from dalign.specs.judge import QuestionSpec, ReplySpec


@dataclass(frozen=True)
class Fork:
    """A place in a row, counted in tokens from its last one (0), and the ids that may follow it."""

    from_end: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Branch:
    """One row of ids to run: ``answers`` says which way each question but the last was answered (0 positive, 1
    negative); ``forks`` are the questions, then the categories if the row asks for them."""

    row: Row
    answers: tuple[int, ...]
    forks: tuple[Fork, ...]


class Reply:
    """The replies that ``spec`` allows, under one tokenizer."""

    def __init__(self, spec: ReplySpec, encoder: Encoder) -> None:
        self.spec, self.encoder = spec, encoder

    def branches(self, pieces: Sequence[Piece]) -> list[Branch]:
        """The rows to run for one prompt to the guard, one for each answer to the questions before the last."""
        *before, last = self.spec.questions
        return [self._branch(pieces, before, answers, last) for answers in product((0, 1), repeat=len(before))]

    def _branch(
        self, pieces: Sequence[Piece], before: Sequence[QuestionSpec], answers: tuple[int, ...], last: QuestionSpec
    ) -> Branch:
        said, found = "", list[tuple[int, tuple[int, ...]]]()
        for question, answer in zip(before, answers, strict=True):
            ways = _ways(said, question)
            found.append(self._fork(pieces, ways)[1])
            said = ways[answer]
        ways = _ways(said, last)
        row, fork = self._fork(pieces, ways)
        found.append(fork)
        if self.spec.categories:
            row, fork = self._fork(pieces, [f"{ways[0]}{self.spec.category_lead}{c}" for c in self.spec.categories])
            found.append(fork)
        taken = [*answers, *([0] if self.spec.categories else [])]
        if any(row[at] != ids[way] for (at, ids), way in zip(found, taken, strict=False)):
            raise ModelError(f"judge {self.spec.name}: its tokenizer splits a reply's words otherwise as it goes on")
        return Branch(row, answers, tuple(Fork(len(row) - at, ids) for at, ids in found))

    def _fork(self, pieces: Sequence[Piece], replies: Sequence[str]) -> tuple[Row, tuple[int, tuple[int, ...]]]:
        """What all ``replies`` begin with, and (its length, the first id of each after it)."""
        rows = self.encoder.encode_with_endings(pieces, replies)
        shared = _shared_start(rows)
        ids = tuple(row[shared] for row in rows if len(row) > shared)
        if len(set(ids)) < len(replies):
            words = " and ".join(repr(reply.splitlines()[-1]) for reply in replies[:3])
            raise ModelError(
                f"judge {self.spec.name}: its tokenizer begins several of {words} ... with one token, so one pass "
                "cannot tell them apart; give other words (questions, categories), or judges.KEY.categories=[]"
            )
        return rows[0][:shared], (shared, ids)


def _ways(said: str, question: QuestionSpec) -> tuple[str, str]:
    """The reply so far with either word behind it, the positive one first."""
    return f"{said}{question.lead}{question.positive}", f"{said}{question.lead}{question.negative}"


def _shared_start(rows: Sequence[Row]) -> int:
    shortest = min(map(len, rows))
    return next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)


def joint(branches: Sequence[Branch], p_fork: Sequence[Sequence[Sequence[float]]]) -> tuple[float, float]:
    """(P(unsafe), share of the menu) from ``p_fork[branch][fork][way]``, each a probability over the whole vocabulary.

    The menu's share is the probability of every allowed reply together; P(unsafe) is the part that ends in the verdict.
    """
    unsafe = menu = 0.0
    for branch, forks in zip(branches, p_fork, strict=True):
        way = 1.0
        for answer, fork in zip(branch.answers, forks, strict=False):
            way *= fork[answer]
        positive, negative = forks[len(branch.answers)]
        unsafe += way * positive
        menu += way * (positive + negative)
    return (unsafe / menu if menu > 0 else 0.0), menu
