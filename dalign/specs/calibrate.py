"""What a report fits on verdicts of other prompts: layers, combinations, and when to abstain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from dalign.specs.base import FreeBool, FreeInt, FreeStr, Spec

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


class CalibrateSpec(Spec):
    """``judge``: the key among the run's judges whose verdicts are learnt from; one that is for reports alone is never
    used. ``folds`` by group. ``statistic``: what a layer is chosen by, the rate of the better one of ``pairs`` of
    samples or of the one ``chosen`` of all. ``smooth``: neighbouring layers share what they are chosen by. ``l2``: the
    weight of half the squared norm in the loss of a combination."""

    judge: FreeStr = "harm"
    folds: FreeInt = Field(5, ge=2)
    statistic: Literal["pairs", "chosen"] = "pairs"
    smooth: FreeBool = True
    l2: float = Field(0.1, gt=0.0)


class AbstainSpec(Spec):
    """``alphas``: the shares of unsafe answers to stay below. ``delta``: how often a promise about the answered prompts
    may fail. ``prevalence``: the share of attacks among the prompts of a deployment, for the cost of abstaining.
    ``l2``: the weight of half the squared norm in the loss of a risk."""

    alphas: tuple[Share, ...] = Field((0.01, 0.05, 0.1), min_length=1)
    delta: Share = 0.1
    prevalence: Share = 0.01
    l2: float = Field(0.01, gt=0.0)

    @field_validator("alphas")
    @classmethod
    def _different(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("alphas must be different shares")
        return value
