"""What the GRPO stage is told: its loss, its rewards, its rollouts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from dalign.records import Kind
from dalign.specs.base import FreeInt, Spec
from dalign.specs.optimiser import OptimiserSpec
from dalign.specs.sampling import SamplerSpec

LossName = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"]


class LossSpec(Spec):
    """The policy-gradient loss. A ratio is clipped to [1 - ``clip_low``, 1 + ``clip_high``]; ``cispo`` bounds its
    weights by ``cispo_max`` instead. ``beta`` is the weight of the KL to the reference (0: none), ``kl`` its
    estimate: ``ratio_k3``, whose gradient is the KL's own, or plain ``k3``."""

    name: LossName = "dapo"
    clip_low: float = Field(0.2, gt=0.0, lt=1.0)
    clip_high: PositiveFloat = 0.28
    cispo_max: PositiveFloat = 5.0
    beta: float = Field(0.0, ge=0.0)
    kl: Literal["ratio_k3", "k3"] = "ratio_k3"


class RewardSpec(Spec):
    """One reward and its weight in the sum.

    ``safe``: P(safe) of the harm judge ``judge``, or, with ``binary``, 1 for a verdict of safe (the paper's).
    ``correct``: 1 for the right answer, by a grader's ``reading``. ``complied``: 1 unless the refusal judge sees a
    refusal. ``finished``: 1 for an answer that ended by itself with its reasoning closed. ``length``: minus the share
    of ``sampler.max_new_tokens`` that was used. ``kinds``: the prompts it is about, all by default. A reward that does
    not apply to a sample, or whose judge could not tell, adds nothing to it.
    """

    kind: Literal["safe", "correct", "complied", "finished", "length"]
    weight: float = 1.0
    judge: str | None = None
    kinds: tuple[Kind, ...] | None = Field(None, min_length=1)
    binary: bool = False
    reading: Literal["strict", "flexible"] = "flexible"

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if (self.kind in ("safe", "correct", "complied")) != (self.judge is not None):
            raise ValueError(f"kind={self.kind} {'needs a judge' if self.judge is None else 'has no judge'}")
        return self


class GrpoStage(OptimiserSpec):
    """Group-relative RL from the distilled adapter (LitGRPO).

    An optimiser step draws ``group`` answers to each of ``prompts`` prompts and takes ``updates`` steps on them, in
    micro-batches of at most ``micro_batch_tokens`` padded tokens. ``scale`` divides advantages by the spread of their
    group, of the whole step, or not. ``truncated`` completions are masked out of loss and baseline, or counted.
    ``temperature`` of the rollouts, null for the sampler's: evaluations draw cooler than learning wants.
    ``resample`` draws other prompts up to so many times for groups whose rewards are all equal. ``validation`` is the
    share of prompts held out, ``validation_prompts`` of which are asked every ``validate_every`` steps.
    """

    name: Literal["grpo"] = "grpo"
    loss: LossSpec = LossSpec()
    rewards: dict[str, RewardSpec] = Field(min_length=1)
    prompts: PositiveInt = 32
    group: int = Field(8, ge=2)
    updates: PositiveInt = 1
    scale: Literal["group", "batch", "none"] = "group"
    truncated: Literal["mask", "count"] = "count"
    temperature: PositiveFloat | None = None
    resample: int = Field(0, ge=0)
    micro_batch_tokens: FreeInt = Field(4096, ge=1)
    bucket: PositiveInt = 64
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    validation: float = Field(0.05, ge=0.0, lt=1.0)
    validation_prompts: PositiveInt = 32
    validate_every: PositiveInt = 10
    checkpoint_every: FreeInt = Field(10, ge=1)

    def rollouts_of(self, sampler: SamplerSpec) -> SamplerSpec:
        """``sampler`` at the temperature of this stage's rollouts."""
        return sampler if self.temperature is None else sampler.model_copy(update={"temperature": self.temperature})


def sampler_fault(sampler: SamplerSpec) -> str:
    """Why a policy cannot learn from what ``sampler`` draws; empty if it can. Filters draw from another distribution
    than the one whose gradient is taken: their probabilities are over the tokens they kept."""
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    for key, value in neutral.items():
        if (found := getattr(sampler, key)) != value:
            why = "stage=grpo learns from samples of the policy itself, and this draws others"
            return f"sampler.{key}={found}: {why}; give sampler.{key}={value}"
    if sampler.temperature == 0.0:
        return "sampler.temperature=0.0: answers that are all the same teach nothing; give sampler.temperature=1.0"
    if sampler.engine.kind != "transformers":
        why = "stage=grpo draws from the model it trains"
        return f"sampler.engine={sampler.engine.kind}: {why}; give sampler/engine=transformers"
    return ""
