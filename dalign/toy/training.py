"""The plain loop that trains the kingdom's models: batches of one length, Muon and AdamW, a warm-up and a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dalign.toy.corpus import Document

Progress = Callable[[str, int, int, float], None]
_IGNORED = -100
# A pool much larger than a batch would sort the kinds of text apart, each batch pulling its own way.
_POOL = 3


@dataclass(frozen=True)
class Schedule:
    """``steps`` of ``batch`` documents; both rates rise over ``warmup`` steps and fall in a cosine to a twentieth.

    ``lr`` is AdamW's, for embeddings, norms and heads; ``matrix_lr`` is Muon's, for the matrices of the layers.
    """

    steps: int
    batch: int
    lr: float = 5e-3
    matrix_lr: float = 0.02
    warmup: int = 20

    def factor(self, step: int) -> float:
        """The share of the full rates at a step counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.05 + 0.475 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Row:
    """Token ids of one document and the target of each place (-100 where there is none, or one class for the row)."""

    ids: list[int]
    targets: list[int]


LossOf = Callable[[torch.nn.Module, list[Row], int], Tensor]


def text_rows(documents: Iterator[Document], tokenizer: PreTrainedTokenizerFast) -> Iterator[Row]:
    """Next-token rows; the loss covers completions only, since half the words of a prefix cannot be foreseen."""
    for prefix, completion in documents:
        head = tokenizer(prefix)["input_ids"] if prefix else []
        tail = tokenizer(completion)["input_ids"]
        yield Row(head + tail, [_IGNORED] * len(head) + tail)


def batches(rows: Iterator[Row], size: int, rng: Random) -> Iterator[list[Row]]:
    """Batches of rows of like length, in shuffled order: a pool is sorted, cut and shuffled at a time."""
    while pool := list(islice(rows, size * _POOL)):
        pool.sort(key=lambda row: len(row.ids))
        cut = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(cut)
        yield from cut


def padded(lists: Sequence[list[int]], fill: int) -> Tensor:
    """A ``(B, T)`` tensor padded on the right to a multiple of 8."""
    width = -(-max(map(len, lists)) // 8) * 8
    return torch.tensor([row + [fill] * (width - len(row)) for row in lists])


def next_token_loss(model: torch.nn.Module, rows: list[Row], pad: int) -> Tensor:
    """Mean cross entropy of the targets. Padding stands on the right of a causal model, so no mask is needed."""
    logits = model(input_ids=padded([r.ids for r in rows], pad)).logits[:, :-1]
    targets = padded([r.targets for r in rows], _IGNORED)[:, 1:]
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED)


def class_loss(model: torch.nn.Module, rows: list[Row], pad: int) -> Tensor:
    """Mean cross entropy of the rows' classes."""
    logits = model(input_ids=padded([r.ids for r in rows], pad)).logits
    return torch.nn.functional.cross_entropy(logits, torch.tensor([r.targets[0] for r in rows]))


def fit(
    model: torch.nn.Module,
    rows: Iterator[Row],
    schedule: Schedule,
    loss_of: LossOf,
    *,
    pad: int,
    seed: str,
    report: Callable[[int, float], None],
) -> None:
    """Trains ``model`` in place; ``report`` gets every step and its loss."""
    model.train()
    optimizers = _optimizers(model, schedule)
    for step, batch in enumerate(islice(batches(rows, schedule.batch, Random(seed)), schedule.steps)):
        loss = loss_of(model, batch, pad)
        loss.backward()
        for optimizer, peak in optimizers:
            optimizer.param_groups[0]["lr"] = peak * schedule.factor(step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        report(step + 1, loss.item())
    model.eval()


def _optimizers(model: torch.nn.Module, schedule: Schedule) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the layers' matrices, which learns to copy in a third of AdamW's steps, and AdamW for all else."""
    named = dict(model.named_parameters())
    inner = {name for name, p in named.items() if p.ndim == 2 and ".layers." in name}
    matrices = [p for name, p in named.items() if name in inner]
    rest = [p for name, p in named.items() if name not in inner]
    return [
        (torch.optim.Muon(matrices, lr=schedule.matrix_lr, weight_decay=0.0), schedule.matrix_lr),
        (torch.optim.AdamW(rest, lr=schedule.lr, weight_decay=0.0, betas=(0.9, 0.98)), schedule.lr),
    ]
