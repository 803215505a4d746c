"""The processes that train one model together, each with all of its weights and a share of every step.

Gradients and figures are *summed*, by name and once a step, and whoever needs a mean divides by a number of the whole
step. Lightning's DDP strategy averages instead, after every backward pass, over processes that must each have had one:
a step would come out divided by the number of processes, and a process without a share of it would hang the others.
So Lightning drives a single device in each process, and knows of no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any, TypeVar

from dalign.errors import LostPeerError

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
R = TypeVar("R")


def deal(costs: Sequence[int], hands: int) -> list[list[int]]:
    """The indices of ``costs`` in ``hands`` shares of about equal sums, each index in one: the dearest first, each to
    the share with the least so far. A function of its arguments alone. Shares are in ascending order; some are empty
    where there are fewer indices than hands."""
    shares: list[list[int]] = [[] for _ in range(hands)]
    loads = [0] * hands
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        least = min(range(hands), key=lambda hand: (loads[hand], len(shares[hand]), hand))
        shares[least].append(index)
        loads[least] += costs[index]
    return [sorted(share) for share in shares]


@dataclass(frozen=True)
class Ranks:
    """Process ``rank`` (from 0) of ``world``. Process 0 leads: it alone writes files and talks.

    What takes part of all must be called by all, in the same order. Alone, a process gets back what it gave, untouched.
    Raises ``LostPeerError`` if another process ends meanwhile.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def words(self) -> str:
        """For people: how many there are, unless it is one."""
        return "" if self.world == 1 else f", in {self.world} processes"

    def mine(self, costs: Sequence[int]) -> list[int]:
        """This process's share of things that cost so much, as indices."""
        return deal(costs, self.world)[self.rank]

    def everyones(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        from torch import distributed

        out: list[Any] = [None] * self.world
        with _together():
            distributed.all_gather_object(out, value)
        return out

    def leaders(self, value: T) -> T:
        """The value of process 0."""
        if self.world == 1:
            return value
        from torch import distributed

        box = [value]
        with _together():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Returns once all processes have come here."""
        self.everyones(None)

    def total(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over the processes, in float64."""
        if self.world == 1:
            return values
        return tuple(fsum(column) for column in zip(*self.everyones(values), strict=True))

    def spread(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """``work(items)``, a result an item in order, each process at its share; all have all results afterwards."""
        if self.world == 1:
            return list(work(items))
        mine = self.mine([1] * len(items))
        done = work([items[i] for i in mine]) if mine else []
        found = {i: result for part in self.everyones(list(zip(mine, done, strict=True))) for i, result in part}
        return [found[i] for i in range(len(items))]

    def require_equal(self, value: object, what: str) -> None:
        """Raises ``RuntimeError`` unless all processes have the same ``value``."""
        if any(other != value for other in self.everyones(value)):
            raise RuntimeError(f"{what} differ between the {self.world} processes: they train models of their own")

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces each gradient by its sum over the processes. One that no process has stays None."""
        if self.world == 1:
            return
        import torch
        from torch import distributed

        for dtype in dict.fromkeys(p.dtype for p in parameters):
            some = [p for p in parameters if p.dtype == dtype]
            has = torch.tensor([p.grad is not None for p in some], dtype=dtype, device=some[0].device)
            flat = torch.cat([has, *((torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in some)])
            with _together():
                distributed.all_reduce(flat)
            sums = flat[len(some) :].split([p.numel() for p in some])
            for p, owners, summed in zip(some, flat[: len(some)].tolist(), sums, strict=True):
                p.grad = summed.view_as(p) if owners else None


ALONE = Ranks()
_PLACE = re.compile(r"^\[[^\]]*\] *")  # in the source of the transport


@contextmanager
def _together() -> Iterator[None]:
    """torch tells the loss of another process as a plain ``RuntimeError`` of its transport."""
    try:
        yield
    except RuntimeError as error:
        found = _PLACE.sub("", str(error).partition("\n")[0]).partition(". ")[0]
        raise LostPeerError(
            f"another process of this job ended ({found}), so this one stops; its own message says why. The same "
            "command continues"
        ) from error
