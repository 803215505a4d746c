"""Answers drawn from the policy that is being trained, as rows of ids for its loss.

They are what the saved policy would sample: drawn in evaluation mode with caches on, by the sampler's own engine, from
streams of their own that hang on run, step, prompt and index alone. A resumed run draws the very same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dalign.drawing import as_sample, sampling_hash
from dalign.models import LoadedModel
from dalign.records import Prompt, Sample
from dalign.sample import Drawn, Request, sample_seed
from dalign.sample.transformers import transformers_engine
from dalign.specs.sampling import SamplerSpec


@dataclass(frozen=True)
class Rollout:
    """One completion: ``ids[start:]`` is what was drawn, the token that stopped it included, and ``logp`` what the
    engine gave these (nats, at the sampling temperature)."""

    prompt: Prompt
    sample: Sample
    ids: tuple[int, ...]
    start: int
    logp: tuple[float, ...]

    @property
    def truncated(self) -> bool:
        return self.sample.finish_reason != "stop"


def draw_rollouts(
    loaded: LoadedModel, sampler: SamplerSpec, prompts: Sequence[Prompt], indices: range, seed: int, *, policy: str
) -> list[Rollout]:
    """The answers ``indices`` to each prompt, prompt after prompt. Raises ``ModelError`` for one without room."""
    asked = {prompt.id: loaded.chat.user_ids(prompt.text, think=True) for prompt in prompts}
    pairs = [(prompt, i) for prompt in prompts for i in indices]
    requests = [Request(asked[p.id], sample_seed(seed, p.id, i)) for p, i in pairs]
    engine = transformers_engine(loaded, sampler, keep_logp=True)
    made = sampling_hash(sampler, seed)
    rollouts = []
    for (prompt, i), drawn in zip(pairs, engine.draw(requests), strict=True):
        ids = asked[prompt.id]
        sample = as_sample(loaded, prompt.id, i, ids, drawn, policy=policy, sampling=made, think=True)
        rollouts.append(_rollout(prompt, sample, drawn))
    return rollouts


def _rollout(prompt: Prompt, sample: Sample, drawn: Drawn) -> Rollout:
    completion = (*drawn.ids, *(() if drawn.stop_id is None else (drawn.stop_id,)))
    assert drawn.logp is not None
    assert len(drawn.logp) == len(completion)
    return Rollout(prompt, sample, (*sample.prompt_ids, *completion), len(sample.prompt_ids), drawn.logp)
