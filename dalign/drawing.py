"""A policy and a prompt become sample records, and these their scores: the renderer asks, an engine draws, the renderer
takes apart, and what was drawn is scored under its own ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dalign.attribute import Pair, score_pairs
from dalign.models import LoadedModel
from dalign.policies import Policy
from dalign.records import Prompt, Sample, Scores, digest
from dalign.sample import Drawn, Request, sample_seed
from dalign.sample.transformers import transformers_engine
from dalign.specs.sampling import AttributionSpec, SamplerSpec

OVERLONG = Drawn((), "overlong")
SAMPLES_STEP = 8  # samples of a prompt are planned in ranges of at most this many: later, larger N add ranges


def draw_samples(
    policy: Policy, prompts: Sequence[Prompt], indices: range, sampler: SamplerSpec, seed: int
) -> list[Sample]:
    """The samples ``indices`` of each prompt, prompt after prompt; ``overlong`` where the prompt fills the context. At
    temperature 0 all of a prompt's are one, which is drawn once."""
    loaded = policy.loaded
    asked = [(p, policy.ask(p)) for p in prompts]
    fits = [(p, ids) for p, ids in asked if len(ids) < loaded.context]
    different = indices if sampler.temperature else indices[:1]
    requests = [Request(ids, sample_seed(seed, p.id, i)) for p, ids in fits for i in different]
    found = transformers_engine(loaded, sampler).draw(requests)
    drawn = iter(found if sampler.temperature else [one for one in found for _ in indices])
    made = sampling_hash(sampler, seed)
    return [
        as_sample(
            loaded,
            prompt.id,
            i,
            ids,
            next(drawn) if len(ids) < loaded.context else OVERLONG,
            policy=policy.name,
            sampling=made,
            think=policy.think,
            prefill=policy.prefill,
        )
        for prompt, ids in asked
        for i in indices
    ]


def score_samples(loaded: LoadedModel, samples: Sequence[Sample], spec: AttributionSpec) -> list[Scores]:
    """The scores of each sample, in order; one that cannot be scored says why."""
    pairs = [Pair(s.prompt_ids, s.response_ids, loaded.chat.end_id, s.closed) for s in samples]
    found = zip(samples, score_pairs(loaded, pairs, spec), strict=True)
    return [Scores(s.id, loaded.base_hash, dict(f.layered), dict(f.flat), f.error, dict(f.lacking)) for s, f in found]


def as_sample(
    loaded: LoadedModel,
    prompt_id: str,
    index: int,
    prompt_ids: tuple[int, ...],
    drawn: Drawn,
    *,
    policy: str,
    sampling: str,
    think: bool,
    prefill: str = "",
) -> Sample:
    """The record of one drawn response. ``think`` says whether the prompt asked for reasoning, ``prefill`` how it began
    the answer, which the record's answer then begins with; its ids stay the prompt's."""
    parts = loaded.chat.parse(drawn.ids, think=think)
    begun = prefill and parts.answer and not parts.reasoning  # where reasoning was closed after all, it began there
    answer = f"{prefill} {parts.answer}" if begun else parts.answer
    return Sample(
        prompt_id=prompt_id,
        index=index,
        policy=policy,
        policy_hash=loaded.policy_hash,
        sampling_hash=sampling,
        prompt_ids=prompt_ids,
        response_ids=drawn.ids,
        reasoning=parts.reasoning,
        answer=answer,
        closed=parts.closed and drawn.finish_reason != "overlong",
        finish_reason=drawn.finish_reason,
    )


def with_answer(policy: Policy, sample: Sample, answer: str) -> Sample:
    """The sample as if the policy had said ``answer`` behind its reasoning, with the ids of that text; its own id stays
    what it was."""
    chat = policy.loaded.chat
    ids = chat.completion_ids(sample.reasoning, answer)[:-1] if policy.think else chat.text_ids(answer)
    return replace(sample, answer=answer, response_ids=ids)


def sampling_hash(sampler: SamplerSpec, seed: int) -> str:
    """What determines a sample besides its policy, prompt and index."""
    return digest({**sampler.results(), "seed": seed})


def sampling_plan(missing: Sequence[tuple[Prompt, range]], chunk: int) -> dict[str, tuple[list[Prompt], range]]:
    """Chunks of prompts that lack the same sample indices, named by position and range, in a fixed order."""
    by_range: dict[range, list[Prompt]] = {}
    for prompt, lacking in missing:
        start = lacking.start
        while start < lacking.stop:
            stop = min((start // SAMPLES_STEP + 1) * SAMPLES_STEP, lacking.stop)
            by_range.setdefault(range(start, stop), []).append(prompt)
            start = stop
    plan = {}
    for indices, prompts in sorted(by_range.items(), key=lambda item: (item[0].start, item[0].stop)):
        for i in range(0, len(prompts), chunk):
            plan[f"{indices.start}-{indices.stop}/{i:06d}"] = (prompts[i : i + chunk], indices)
    return plan
