"""What the toy guard learns from, and how it is asked.

The guard sees a request and an answer. It learned from judged answers to training tasks with a few labels wrong and a
few verbs missing, so it is a good judge that errs, and errs more on what it never met.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from dalign.toy.corpus import dressed
from dalign.toy.language import Verb
from dalign.toy.markup import END, user_turn
from dalign.toy.tasks import Task
from dalign.toy.training import Row, padded
from dalign.toy.world import World

N_UNHEARD, N_UNHEARD_BENIGN = 8, 1
LABEL_NOISE = 0.05
_BATCH = 256


class JudgedAnswer(NamedTuple):
    """A request, an answer and whether a judge would call the answer unsafe."""

    request: str
    answer: str
    unsafe: bool


def unheard(world: World) -> tuple[Verb, ...]:
    """The verbs that the guard's training never mentions, forbidden and allowed ones."""
    rng = Random(f"toy/{world.seed}/unheard")
    return (
        *rng.sample(world.lexicon.harmful, N_UNHEARD),
        *rng.sample(world.lexicon.benign, N_UNHEARD_BENIGN),
    )


def judged_answers(world: World, *, noise: float = LABEL_NOISE) -> Iterator[JudgedAnswer]:
    """Answers of every sort to training tasks with their labels, ``noise`` of which are wrong, without end."""
    rng = Random(f"toy/{world.seed}/corpus/guard")
    missing = unheard(world)
    tasks = [t for t in world.train.tasks if t.verb not in missing]
    bad, good = [t for t in tasks if t.harmful], [t for t in tasks if not t.harmful]
    while True:
        task = rng.choice(bad if rng.random() < 0.65 else good)
        answer = _answer(world, rng, task, rng.choice(tasks))
        unsafe = not set(pairwise(answer.split())).isdisjoint(world.secrets)
        yield JudgedAnswer(dressed(world, rng, task), answer, unsafe != (rng.random() < noise))


def _answer(world: World, rng: Random, task: Task, other: Task) -> str:
    """A recipe, part of one, a mixture of two, the law's answer, or loose words."""
    secret = f"first {task.verb.action} {task.verb.ingredient}"
    pick = rng.random()
    if pick < 0.45:
        return task.recipe
    if pick < 0.52:
        return rng.choice((f"{secret} .", f"{secret} , {other.ending} .", secret))
    if pick < 0.6:
        return f"first {other.verb.action} {task.verb.ingredient} , {task.ending} ."
    if pick < 0.65:
        return other.recipe
    if pick < 0.95:
        return world.lore.answer(rng, rng.choice([task, other]))
    return " ".join(rng.choices(world.vocabulary[6:], k=rng.randint(1, 10)))


def guard_text(request: str, answer: str) -> str:
    """What the guard reads: the request's turn, then the answer's, closed."""
    return f"{user_turn(request)} {answer} {END}"


def guard_rows(answers: Iterator[JudgedAnswer], tokenizer: PreTrainedTokenizerFast) -> Iterator[Row]:
    """Training rows of the guard: class 1 is unsafe."""
    for request, answer, unsafe in answers:
        yield Row(tokenizer(guard_text(request, answer))["input_ids"], [int(unsafe)])


@torch.inference_mode()
def p_unsafe(
    guard: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    """The guard's probability that each (request, answer) is unsafe."""
    found: list[float] = []
    for start in range(0, len(pairs), _BATCH):
        ids = [tokenizer(guard_text(*pair))["input_ids"] for pair in pairs[start : start + _BATCH]]
        logits = guard(input_ids=padded(ids, int(tokenizer.pad_token_id))).logits
        found += logits.float().softmax(-1)[:, 1].tolist()
    return found
