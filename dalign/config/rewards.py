"""What stands against a GRPO stage: rewards whose judges are not there or may not teach, and samplers."""

from __future__ import annotations

from collections.abc import Iterator

from dalign.config.judging import judge_problems, may_teach
from dalign.config.problems import Problem
from dalign.errors import did_you_mean
from dalign.specs.grpo import GrpoStage, RewardSpec, sampler_fault
from dalign.specs.judge import Family, JudgeSpec
from dalign.specs.run import RunSpec

FAMILY: dict[str, Family] = {"safe": "harm", "correct": "answers", "complied": "refusal"}


def grpo_problems(spec: RunSpec, stage: GrpoStage) -> Iterator[Problem]:
    """Every reason not to begin, found without loading anything."""
    if fault := sampler_fault(stage.rollouts_of(spec.sampler)):
        yield Problem(fault.partition("=")[0], fault)
    yield from judge_problems(spec)
    for name, reward in stage.rewards.items():
        yield from _reward(spec, f"stage.rewards.{name}.judge", reward)
    if all(reward.weight == 0.0 for reward in stage.rewards.values()):
        yield Problem("stage.rewards", "stage.rewards: all weights are 0, there is nothing to learn; give one a weight")


def _reward(spec: RunSpec, key: str, reward: RewardSpec) -> Iterator[Problem]:
    if reward.judge is None:
        return
    judge: JudgeSpec | None = spec.judges.get(reward.judge)
    if judge is None:
        hint = did_you_mean(reward.judge, list(spec.judges))
        yield Problem(key, f"{key}={reward.judge}: no such key of judges; {hint}")
    elif reward.kind == "safe":
        yield from may_teach(key, judge, "reward")
    elif judge.report_only or judge.family != FAMILY[reward.kind]:
        text = f"{key}={reward.judge} is {judge.name}, and a reward of kind {reward.kind} needs a judge of"
        yield Problem(key, f"{text} {FAMILY[reward.kind]} that is not for reports alone; name another")
