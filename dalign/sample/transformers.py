"""Sampling in this process with a transformers model, on any device.

Each distinct prompt passes through the model once, whatever the number of its samples; its keys and values are then
repeated. Rows that ended are taken out of the batch. Random numbers come from one stream a row (``draws``), so that in
float32 a sample's tokens depend on its prompt and its seed alone. The checkpoint's own generation config is ignored but
for its stopping ids: some ship a repetition penalty, and the sampler's spec is all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dalign.attribute.batches import left_pad, round_up
from dalign.attribute.frozen import frozen
from dalign.attribute.hidden import causal_lm
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.sample.cache import block_cache
from dalign.sample.draws import filters, pick, uniforms
from dalign.sample.engine import Drawn, Engine, Request
from dalign.specs.sampling import SamplerSpec, TransformersEngine


def transformers_engine(loaded: LoadedModel, spec: SamplerSpec) -> Engine:
    """An engine that draws from ``loaded`` as it stands: its adapter on, or off inside ``loaded.adapter_off()``."""
    return InProcess(loaded, spec)


class InProcess:
    """See ``Engine``. One call decodes all its requests as one batch."""

    def __init__(self, loaded: LoadedModel, spec: SamplerSpec) -> None:
        self.loaded, self.spec = loaded, spec
        self.bucket = spec.engine.bucket if isinstance(spec.engine, TransformersEngine) else 1

    def draw(self, requests: Sequence[Request]) -> list[Drawn]:
        """One response a request, in order, each up to the context at most (``finish_reason`` is ``length`` there)."""
        if not requests:
            return []
        limits = [self._limit(request) for request in requests]
        with frozen(self.loaded.model):
            return _Decoding(self, requests, limits).run()

    def _limit(self, request: Request) -> int:
        length, context = len(request.prompt_ids), self.loaded.context
        if length == 0:
            raise ModelError("a prompt has no tokens; the chat template must render at least one")
        if length >= context:
            raise ModelError(
                f"a prompt of {length} tokens leaves no room for a response: the model's context is {context}; drop "
                "that prompt, or use a model with a longer context"
            )
        return min(self.spec.max_new_tokens, context - length)


class _Decoding:
    """The state of one call: ``rows[i]`` is the request that batch row i draws for, until it ends."""

    def __init__(self, engine: InProcess, requests: Sequence[Request], limits: Sequence[int]) -> None:
        self.loaded, self.spec, self.requests, self.limits = engine.loaded, engine.spec, requests, limits
        self.model: Any = causal_lm(engine.loaded.model)
        self.few_shapes = self.model.dtype != torch.float32
        self.eos = set(engine.loaded.eos_ids)
        self.filters = filters(engine.spec)
        self.prompts = list(dict.fromkeys(request.prompt_ids for request in requests))
        self.width = round_up(max(map(len, self.prompts)), engine.bucket)
        self.ids: list[list[int]] = [[] for _ in requests]
        self.drawn: dict[int, Drawn] = {}
        self.rows = list(range(len(requests)))

    def run(self) -> list[Drawn]:
        """1. the prompts, once each; 2. a token for every row; 3. rows that ended leave; 4. the next logits."""
        scores_BV = self._prefill()
        for step in range(max(self.limits)):
            tokens_B = self._next_tokens(scores_BV, step)
            self._record(tokens_B.tolist())
            live = [row for row, request in enumerate(self.rows) if request not in self.drawn]
            if not live:
                break
            tokens_B = self._compact(live, tokens_B)
            scores_BV = self._forward(tokens_B, step)
        return [self.drawn[i] for i in range(len(self.requests))]

    def _prefill(self) -> Tensor:
        loaded, room = self.loaded, max(self.limits)
        batch = left_pad(self.prompts, self.width, loaded.pad_id, loaded.device)
        self.cache = block_cache(self.model.config)
        out = self._call(batch.ids_BT, batch.mask_BT, batch.positions_BT)
        index = {prompt: i for i, prompt in enumerate(self.prompts)}
        rows = torch.tensor([index[request.prompt_ids] for request in self.requests], device=loaded.device)
        self.cache.batch_select_indices(rows)
        self.mask_BT = torch.nn.functional.pad(batch.mask_BT[rows], (0, room), value=1)
        self.next_B = batch.positions_BT[rows, -1] + 1
        # The penalty looks at ids, not at the mask: a row's padding repeats its own last token, so it adds none.
        own = torch.where(batch.mask_BT.bool(), batch.ids_BT, batch.ids_BT[:, -1:])
        self.history_BT = torch.nn.functional.pad(own[rows], (0, room))
        self.uniforms_BT = uniforms([request.seed for request in self.requests], room).to(loaded.device)
        return out[rows]

    def _forward(self, tokens_B: Tensor, step: int) -> Tensor:
        columns = self.width + step + 1
        self.history_BT[:, columns - 1] = tokens_B
        # Rows that ended stay until the next compaction; their positions must not run past a learnt table.
        positions_B = self.next_B.clamp(max=self.loaded.context - 1)
        self.next_B = self.next_B + 1
        return self._call(tokens_B[:, None], self.mask_BT[:, :columns], positions_B[:, None])

    def _call(self, ids_BT: Tensor, mask_BT: Tensor, positions_BT: Tensor) -> Tensor:
        out = self.model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        scores: Tensor = out.logits[:, -1].float()
        return scores

    def _next_tokens(self, scores_BV: Tensor, step: int) -> Tensor:
        scores_BV = self.filters(self.history_BT[:, : self.width + step], scores_BV)
        if self.spec.temperature == 0.0:
            return scores_BV.argmax(-1)
        return pick(scores_BV, self.uniforms_BT[:, step])

    def _record(self, tokens: Sequence[int]) -> None:
        for request, token in zip(self.rows, tokens, strict=True):
            if request in self.drawn:
                continue
            if token in self.eos:
                self.drawn[request] = Drawn(tuple(self.ids[request]), "stop")
                continue
            self.ids[request].append(token)
            if len(self.ids[request]) == self.limits[request]:
                self.drawn[request] = Drawn(tuple(self.ids[request]), "length")

    def _compact(self, live: Sequence[int], tokens_B: Tensor) -> Tensor:
        """Takes rows that ended out of the batch when that is worth a copy of the cache; the tokens of those kept."""
        size = rows_kept(len(self.rows), len(live), few_shapes=self.few_shapes)
        if size == len(self.rows):
            return tokens_B
        ended = sorted(set(range(len(self.rows))) - set(live))
        kept = sorted([*live, *ended[: size - len(live)]])
        index = torch.tensor(kept, device=tokens_B.device)
        self.rows = [self.rows[row] for row in kept]
        self.cache.batch_select_indices(index)
        self.mask_BT, self.history_BT = self.mask_BT[index], self.history_BT[index]
        self.next_B, self.uniforms_BT = self.next_B[index], self.uniforms_BT[index]
        return tokens_B[index]


def rows_kept(rows: int, live: int, *, few_shapes: bool) -> int:
    """How many rows to go on with. ``few_shapes`` halves only (oneDNN compiles a shape once, for seconds, in bf16)."""
    if not few_shapes:
        return live if live * 8 <= rows * 7 else rows
    while (rows + 1) // 2 >= live and rows > 1:
        rows = (rows + 1) // 2
    return rows
