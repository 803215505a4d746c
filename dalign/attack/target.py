"""Who is attacked: a policy that gives one sample a turn, or one that serves the selector's choice of N.

The first of the N is the single sample: at the same attempt both targets see the same draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dalign.attack.turns import NO_CHOICE, Attempt, Stream
from dalign.attribute import Pair
from dalign.drawing import draw_samples
from dalign.headline import headline_probe, probe_file, rank
from dalign.layout import ADAPTER_POLICIES, file_hash
from dalign.policies import Policy
from dalign.records import Prompt, Sample
from dalign.select import SELECTORS
from dalign.specs.attack import PairSpec, Target
from dalign.specs.run import RunSpec
from dalign.specs.sampling import FLAT, LAYERED


@dataclass(frozen=True)
class Served:
    """The answer to one attempt: the sample of the ``n`` drawn that was served, None with an ``error`` saying why."""

    n: int
    sample: Sample | None
    error: str = ""


def targets_of(spec: RunSpec, attack: PairSpec, policy: str) -> tuple[Target, ...]:
    """Those of ``attack.targets`` that a policy can be: a score chooses only where there is a base to score against."""
    chooses = policy in ADAPTER_POLICIES or spec.selector.score in SELECTORS
    return tuple(t for t in dict.fromkeys(attack.targets) if t == "single" or chooses)


def selector_inputs(spec: RunSpec) -> dict[str, str]:
    """The hash of the probe, where a probe chooses and there is one."""
    probe = probe_file(spec)
    return {"probe": file_hash(probe)} if headline_probe(spec) and probe.is_file() else {}


def serve(spec: RunSpec, policy: Policy, target: Target, asked: Sequence[tuple[Stream, Attempt]]) -> list[Served]:
    """What ``policy`` serves to each stream's attempt, in order."""
    n = 1 if target == "single" else spec.sampler.n
    prompts = [attempted(stream, attempt) for stream, attempt in asked]
    samples = draw_samples(policy, prompts, range(n), spec.sampler, spec.seed)
    rows = [samples[i * n : (i + 1) * n] for i in range(len(prompts))]
    if target == "single":
        return [Served(n, row[0]) for row in rows]
    return [_chosen(spec, policy, row) for row in rows]


def attempted(stream: Stream, attempt: Attempt) -> Prompt:
    """The prompt that the target sees: the goal's row in the attempt's words. Its id, hence what is drawn, differs
    between turns of equal words, and not between targets."""
    return replace(stream.goal, row=f"{stream.goal.row}/{stream.number}/{stream.iteration}", text=attempt.prompt)


def _chosen(spec: RunSpec, policy: Policy, samples: Sequence[Sample]) -> Served:
    pairs = [Pair(s.prompt_ids, s.response_ids, policy.loaded.chat.end_id, s.closed) for s in samples]
    index = rank(_selecting(spec), policy.loaded, pairs, [s.finished for s in samples]).chosen
    if index is None:
        return Served(len(samples), None, NO_CHOICE)
    return Served(len(samples), samples[index])


def _selecting(spec: RunSpec) -> RunSpec:
    """The configuration with no score but the one that chooses."""
    score = spec.selector.score
    only = {"layered": [s for s in LAYERED if s == score], "flat": [s for s in FLAT if s == score]}
    return spec.model_copy(update={"attribution": spec.attribution.model_copy(update=only)})
