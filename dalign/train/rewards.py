"""Named rewards of sampled answers. None says that a reward does not apply, or that its judge could not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dalign.judge.base import Judge, JudgeItem
from dalign.records import Kind, Part, Prompt, Sample, Verdict
from dalign.specs.grpo import RewardSpec

Values = list[float | None]

# What a reward is about where it does not say: only these prompts have a right answer, or are to be complied with.
KINDS: Mapping[str, tuple[Kind, ...]] = {"correct": ("math", "choice"), "complied": ("benign",)}
PART: Part = "answer"


class Rewards:
    """The rewards of ``specs`` by their names; ``judges`` are those they name, ``max_tokens`` an answer's most."""

    def __init__(self, specs: Mapping[str, RewardSpec], judges: Mapping[str, Judge], max_tokens: int) -> None:
        self.specs, self.judges, self.max_tokens = specs, judges, max_tokens

    @property
    def weights(self) -> dict[str, float]:
        return {name: spec.weight for name, spec in self.specs.items()}

    def of(self, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> dict[str, Values]:
        """The value of each reward for each sample, ``prompts[i]`` being what ``samples[i]`` answers."""
        found: dict[str, Values] = {}
        for name, spec in self.specs.items():
            about = [i for i, prompt in enumerate(prompts) if applies(spec, prompt)]
            values = self._values(spec, [prompts[i] for i in about], [samples[i] for i in about])
            found[name] = [None] * len(samples)
            for i, value in zip(about, values, strict=True):
                found[name][i] = value
        return found

    def _values(self, spec: RewardSpec, prompts: Sequence[Prompt], samples: Sequence[Sample]) -> Values:
        if spec.kind == "finished":
            return [float(sample.finished) for sample in samples]
        if spec.kind == "length":
            return [-len(sample.response_ids) / self.max_tokens for sample in samples]
        assert spec.judge is not None
        items = [JudgeItem.of(sample, prompt) for sample, prompt in zip(samples, prompts, strict=True)]
        return [value_of(spec, verdict) for verdict in self.judges[spec.judge].judge(items, PART)]


def applies(spec: RewardSpec, prompt: Prompt) -> bool:
    """Whether a reward is about a prompt."""
    kinds = spec.kinds or KINDS.get(spec.kind)
    return (kinds is None or prompt.kind in kinds) and (spec.kind != "correct" or prompt.reference is not None)


def value_of(spec: RewardSpec, verdict: Verdict) -> float | None:
    """The reward for a judge's verdict; None for one without a finding."""
    if verdict.label == "unscored":
        return None
    if spec.kind == "correct":
        return float(verdict.correct[spec.reading])
    if spec.kind == "complied":
        return float(verdict.label == "complied")
    if spec.binary or verdict.p_unsafe is None:
        return float(verdict.label == "safe")
    return 1.0 - verdict.p_unsafe
