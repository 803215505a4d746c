"""What a sampling engine is asked and what it answers; one contract test holds for all of them.

A sample is determined by its prompt's ids and its own seed. In float32 nothing else in a call changes its tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dalign.records import FinishReason

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Request:
    """One response wanted: the exact ids to go on from, and the seed of its own random stream."""

    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Drawn:
    """The ids drawn, without the token that stopped them; ``stop`` if the model ended it, ``length`` if room did.

    ``states_LD``: where an engine keeps them, the model's states at the last id, layers 0 to L, float32. ``stop_id``:
    the token that stopped them, where one did. ``logp``: where an engine keeps them, the log-probabilities (nats) of
    what was drawn, after the sampler's filters, the stopping token's included.
    """

    ids: tuple[int, ...]
    finish_reason: FinishReason
    states_LD: Tensor | None = field(default=None, compare=False, repr=False)
    stop_id: int | None = field(default=None, compare=False)
    logp: tuple[float, ...] | None = field(default=None, compare=False, repr=False)


class Engine(Protocol):
    """Draws one response a request, in order. Requests with equal ``prompt_ids`` may share that prompt's pass.

    In low precision a row's tokens depend on what is drawn beside it, so the caller passes fixed chunks.
    Raises ``ModelError`` for a prompt that leaves no room in the model's context.
    """

    def draw(self, requests: Sequence[Request]) -> list[Drawn]: ...


def sample_seed(run_seed: int, prompt_id: str, index: int) -> int:
    """A seed in [0, 2^63) for sample ``index`` of a prompt; the same on every machine, however the work is split."""
    key = f"{run_seed}\x1f{prompt_id}\x1f{index}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1
