"""Decoding many requests in a fixed number of places: prompts enter together, samples leave when they end.

All rows end in the same column. When rows change, the columns that no row fills any more are dropped, so that attention
never runs over a long sample that has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from dalign.attribute.batches import left_pad, round_up
from dalign.attribute.hidden import causal_lm, last_states
from dalign.joined import can_join
from dalign.models import LoadedModel
from dalign.records import FinishReason
from dalign.sample.attention import own_columns
from dalign.sample.cache import BlockCache, block_cache
from dalign.sample.draws import filters, pick, uniforms
from dalign.sample.engine import Drawn, Request
from dalign.specs.sampling import SamplerSpec, TransformersEngine

EIGHTHS = 8  # rows change when at least one in this many has ended: each change copies the cache


@dataclass
class _Batch:
    """The rows in the model: ``requests[i]`` is what row i draws for. Right aligned; ``mask_BT`` is 1 at its tokens.

    ``prompt_B`` are its prompt's tokens, ``scores_BV`` the logits of each row's next token, ``next_B`` that token's
    position, ``states_BLD`` the states they come from if these are kept.
    """

    requests: list[int]
    cache: Any
    mask_BT: Tensor
    history_BT: Tensor
    prompt_B: Tensor
    next_B: Tensor
    scores_BV: Tensor
    states_BLD: Tensor | None

    def keep(self, rows: Sequence[int], more: _Batch | None = None) -> None:
        """Only ``rows`` go on, and ``more``'s after them."""
        index = torch.tensor(rows, device=self.next_B.device)
        self.requests = [self.requests[row] for row in rows]
        self.mask_BT, self.history_BT = self.mask_BT[index], self.history_BT[index]
        self.prompt_B, self.next_B, self.scores_BV = self.prompt_B[index], self.next_B[index], self.scores_BV[index]
        self.states_BLD = None if self.states_BLD is None else self.states_BLD[index]
        if not isinstance(self.cache, BlockCache):
            self.cache.batch_select_indices(index)
            return
        tokens_B = self.mask_BT.sum(-1)
        columns, own = int(tokens_B.max()), int((tokens_B - self.prompt_B).max())
        self.mask_BT, self.history_BT = self.mask_BT[:, -columns:], self.history_BT[:, -columns:]
        self.cache.repack(index, columns, own, more.cache if more else None)
        if more:
            self.requests += more.requests
            self.mask_BT = _right_aligned(self.mask_BT, more.mask_BT)
            self.history_BT = _right_aligned(self.history_BT, more.history_BT)
            self.prompt_B = torch.cat([self.prompt_B, more.prompt_B])
            self.next_B = torch.cat([self.next_B, more.next_B])
            self.scores_BV = torch.cat([self.scores_BV, more.scores_BV])
            if self.states_BLD is not None and more.states_BLD is not None:
                self.states_BLD = torch.cat([self.states_BLD, more.states_BLD])


def _right_aligned(one_BT: Tensor, other_BT: Tensor) -> Tensor:
    width = max(one_BT.shape[1], other_BT.shape[1])
    return torch.cat([pad(rows_BT, (width - rows_BT.shape[1], 0)) for rows_BT in (one_BT, other_BT)])


class Decoding:
    """One call of the engine: ``limits[i]`` new tokens at most for ``requests[i]``; ``run`` once."""

    def __init__(
        self,
        loaded: LoadedModel,
        spec: SamplerSpec,
        engine: TransformersEngine,
        requests: Sequence[Request],
        limits: Sequence[int],
        *,
        keep_states: bool = False,
        keep_logp: bool = False,
    ) -> None:
        self.keep_states, self.keep_logp = keep_states, keep_logp
        self.loaded, self.spec, self.requests, self.limits = loaded, spec, requests, limits
        self.bucket = engine.bucket
        self.model: Any = causal_lm(loaded.model)
        refillable = isinstance(block_cache(self.model.config), BlockCache)
        self.places = min(engine.rows, len(requests)) if refillable else len(requests)
        self.eos = set(loaded.eos_ids)
        self.filters = filters(spec)
        self.uniforms_RT = uniforms([request.seed for request in requests], max(limits)).to(loaded.device)
        self.ids: list[list[int]] = [[] for _ in requests]
        self.logp: list[list[float]] = [[] for _ in requests]
        self.drawn: dict[int, Drawn] = {}
        self.queue = deque(range(len(requests)))

    def run(self) -> list[Drawn]:
        """1. requests take free places; 2. a token for every row; 3. rows that ended leave; 4. the next logits."""
        batch = self._prefill(self._next_requests(self.places))
        while True:
            scores_BV = self.filters(batch.history_BT, batch.scores_BV)
            tokens_B = self._next_tokens(batch, scores_BV)
            if self.keep_logp:
                self._record_logp(batch, scores_BV, tokens_B)
            self._record(batch, tokens_B.tolist())
            live = self._live(batch)
            if live:
                tokens_B = self._leave(batch, live, tokens_B)
                self._forward(batch, tokens_B)
            elif not self.queue:
                return [self.drawn[i] for i in range(len(self.requests))]
            batch = self._admit(batch)

    def _live(self, batch: _Batch) -> list[int]:
        return [row for row, request in enumerate(batch.requests) if request not in self.drawn]

    def _next_requests(self, count: int) -> list[int]:
        return [self.queue.popleft() for _ in range(min(count, len(self.queue)))]

    def _admit(self, batch: _Batch) -> _Batch:
        """``batch`` with the next requests in the places of rows that ended, once they are enough for a copy."""
        live = self._live(batch)
        free = self.places - len(live)
        if not self.queue or free * EIGHTHS < self.places:
            return batch
        entering = self._prefill(self._next_requests(free))
        if not live:
            return entering
        batch.keep(live, entering)
        return batch

    def _prefill(self, requests: list[int]) -> _Batch:
        """The prompts of ``requests``, once each, then a row a request."""
        loaded, prompts = self.loaded, [self.requests[i].prompt_ids for i in requests]
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        width = round_up(max(map(len, distinct)), self.bucket)
        padded = left_pad(list(distinct), width, loaded.pad_id, loaded.device)
        cache = block_cache(self.model.config)
        scores_PV, states_PLD = self._call(cache, padded.ids_BT, padded.mask_BT, padded.positions_BT)
        chosen = [distinct[prompt] for prompt in prompts]
        rows = torch.tensor(chosen, device=loaded.device)
        if isinstance(cache, BlockCache):
            cache.begin(chosen, list(map(len, distinct)), share=can_join(self.model))
        else:
            cache.batch_select_indices(rows)
        # The penalty looks at ids, not at the mask: a row's padding repeats its own last token, so it adds none.
        own_PT = torch.where(padded.mask_BT.bool(), padded.ids_BT, padded.ids_BT[:, -1:])
        tokens_B = padded.positions_BT[rows, -1] + 1
        states_BLD = None if states_PLD is None else states_PLD[rows]
        mask_BT, own_BT = padded.mask_BT[rows], own_PT[rows]
        return _Batch(requests, cache, mask_BT, own_BT, tokens_B, tokens_B, scores_PV[rows], states_BLD)

    def _forward(self, batch: _Batch, tokens_B: Tensor) -> None:
        ids_BT = tokens_B[:, None]
        batch.history_BT = torch.cat([batch.history_BT, ids_BT], dim=1)
        batch.mask_BT = pad(batch.mask_BT, (0, 1), value=1)
        # Rows that ended stay until they leave together; their positions must not run past a learnt table.
        positions_B = batch.next_B.clamp(max=self.loaded.context - 1)
        batch.next_B = batch.next_B + 1
        own = [0 if i in self.drawn else len(self.ids[i]) for i in batch.requests]
        columns = [n and n + len(self.requests[i].prompt_ids) for n, i in zip(own, batch.requests, strict=True)]
        with own_columns(self.model, batch.cache, columns, own):
            batch.scores_BV, batch.states_BLD = self._call(batch.cache, ids_BT, batch.mask_BT, positions_B[:, None])

    def _call(self, cache: Any, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, V) after the last column and, if they are kept, the states there (B, L+1, D)."""
        kept: AbstractContextManager[list[Tensor]] = last_states(self.model) if self.keep_states else nullcontext([])
        with kept as states:
            out = self.model(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return out.logits[:, -1].float(), torch.stack(states, dim=1) if states else None

    def _next_tokens(self, batch: _Batch, scores_BV: Tensor) -> Tensor:
        if self.spec.temperature == 0.0:
            return scores_BV.argmax(-1)
        steps = [min(len(self.ids[i]), self.uniforms_RT.shape[1] - 1) for i in batch.requests]
        return pick(scores_BV, self.uniforms_RT[batch.requests, steps])

    def _record_logp(self, batch: _Batch, scores_BV: Tensor, tokens_B: Tensor) -> None:
        logp_B = scores_BV.float().log_softmax(-1).gather(-1, tokens_B[:, None])[:, 0]
        for request, logp in zip(batch.requests, logp_B.tolist(), strict=True):
            if request not in self.drawn:
                self.logp[request].append(logp)

    def _record(self, batch: _Batch, tokens: Sequence[int]) -> None:
        for row, (request, token) in enumerate(zip(batch.requests, tokens, strict=True)):
            if request in self.drawn:
                continue
            stop = token if token in self.eos else None
            if stop is None:
                self.ids[request].append(token)
                if len(self.ids[request]) < self.limits[request]:
                    continue
            self.drawn[request] = self._ended(batch, row, stop)

    def _ended(self, batch: _Batch, row: int, stop: int | None) -> Drawn:
        request = batch.requests[row]
        logp = tuple(self.logp[request]) if self.keep_logp else None
        states = None if stop is None else self._states(batch, row)
        finish: FinishReason = "length" if stop is None else "stop"
        return Drawn(tuple(self.ids[request]), finish, states, stop_id=stop, logp=logp)

    def _states(self, batch: _Batch, row: int) -> Tensor | None:
        """The states at the last id of a row that ended; None where there is no id, or they are not kept."""
        if batch.states_BLD is None or not self.ids[batch.requests[row]]:
            return None
        return batch.states_BLD[row].cpu()

    def _leave(self, batch: _Batch, live: list[int], tokens_B: Tensor) -> Tensor:
        """Drops rows that ended if nobody waits for their places and enough have; the tokens of the rows left."""
        ended = len(batch.requests) - len(live)
        if self.queue or ended * EIGHTHS < len(batch.requests):
            return tokens_B
        batch.keep(live)
        return tokens_B[torch.tensor(live, device=tokens_B.device)]
