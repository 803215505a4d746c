"""Answers requests from samples drawn before, as another run or another program left them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dalign.errors import DataError
from dalign.records import Sample
from dalign.sample.engine import Drawn, Request, sample_seed


class ReplayEngine:
    """Finds a request's sample by its prompt's ids and its index, which the request's seed stands for.

    ``run_seed`` is the seed of the run that asks, not of the one that drew.
    """

    def __init__(self, samples: Iterable[Sample], run_seed: int) -> None:
        self._drawn = {
            Request(s.prompt_ids, sample_seed(run_seed, s.prompt_id, s.index)): Drawn(s.response_ids, s.finish_reason)
            for s in samples
        }

    def draw(self, requests: Sequence[Request]) -> list[Drawn]:
        """The samples asked for, in order. Raises ``DataError`` if one of them was never drawn."""
        missing = sum(request not in self._drawn for request in requests)
        if missing:
            raise DataError(
                f"sampler.engine.path: {missing} of {len(requests)} samples asked for are not in that file, which has "
                f"{len(self._drawn)}; it must hold the same prompts under the same chat template, and as many samples "
                "of each (sampler.n)"
            )
        return [self._drawn[request] for request in requests]
