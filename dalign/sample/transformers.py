"""Sampling in this process with a transformers model, on any device.

Each distinct prompt passes through the model once, whatever the number of its samples; its keys and values are then
repeated. The places of samples that ended are taken by the next ones, an eighth of the places at a time. Random numbers
come from one stream a row (``draws``): in float32 a sample depends on its prompt and its seed alone. The
checkpoint's own generation config is ignored but for its stopping ids: some ship a repetition penalty, and the
sampler's spec is all there is.
"""

from __future__ import annotations

from collections.abc import Sequence

from dalign.attribute.frozen import frozen
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.sample.decoding import Decoding
from dalign.sample.engine import Drawn, Engine, Request
from dalign.specs.sampling import SamplerSpec, TransformersEngine


def transformers_engine(
    loaded: LoadedModel, spec: SamplerSpec, *, keep_states: bool = False, keep_logp: bool = False
) -> Engine:
    """An engine that draws from ``loaded`` as it stands: its adapter on, or off inside ``loaded.adapter_off()``.

    ``keep_states`` keeps the states at the last id of every response that the model ended itself: attribution then
    needs no pass of the student's own. ``keep_logp`` keeps the log-probabilities of what was drawn.
    """
    return InProcess(loaded, spec, keep_states=keep_states, keep_logp=keep_logp)


class InProcess:
    """See ``Engine``. One call decodes all its requests, ``spec.engine.rows`` of them at a time."""

    def __init__(
        self, loaded: LoadedModel, spec: SamplerSpec, *, keep_states: bool = False, keep_logp: bool = False
    ) -> None:
        self.loaded, self.spec, self.keep_states, self.keep_logp = loaded, spec, keep_states, keep_logp
        self.engine = spec.engine if isinstance(spec.engine, TransformersEngine) else TransformersEngine()

    def draw(self, requests: Sequence[Request]) -> list[Drawn]:
        """One response a request, in order, each up to the context at most (``finish_reason`` is ``length`` there)."""
        if not requests:
            return []
        limits = [self._limit(request) for request in requests]
        with frozen(self.loaded.model):
            decoding = Decoding(
                self.loaded,
                self.spec,
                self.engine,
                requests,
                limits,
                keep_states=self.keep_states,
                keep_logp=self.keep_logp,
            )
            return decoding.run()

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
