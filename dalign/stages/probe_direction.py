"""Refusal directions for stage=probe: from the training prompts, which are none of an evaluation's, and no verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dalign.errors import DataError
from dalign.models import LoadedModel
from dalign.prompts import load_dataset
from dalign.prompts.spread import spread
from dalign.records import Prompt
from dalign.specs.probe import Input
from dalign.specs.run import RunSpec
from dalign.specs.stage import ProbeStage
from dalign.stages.probe_states import features_of, prompt_states
from dalign.train.direction import Direction, refusal_direction


def direction_prompts(spec: RunSpec, stage: ProbeStage) -> tuple[Prompt, ...]:
    """The harmful and the harmless requests of the training set, at most ``stage.direction_prompts`` of each, evenly
    spaced; sums and choices are neither. Raises ``DataError`` where a kind is missing."""
    every = load_dataset(spec.dataset, paths=spec.paths, world_seed=spec.world_seed)
    kinds = {kind: [p for p in every if p.kind == kind] for kind in ("harmful", "benign")}
    for kind, prompts in kinds.items():
        if not prompts:
            raise DataError(
                f"stage.methods=[refusal_direction]: dataset={spec.dataset.name} has no {kind} prompt, and the "
                "direction is the difference of the two kinds; name a data set with both (a category says which is "
                "benign), or leave the method out"
            )
    return tuple(p for own in kinds.values() for p in spread(own, stage.direction_prompts, [0] * len(own)))


def read_directions(
    spec: RunSpec, loaded: LoadedModel, prompts: Sequence[Prompt], inputs: Collection[Input]
) -> Mapping[Input, Direction]:
    """The direction of each input, from the states at the prompts' last token, asked as the student is. Raises
    ``DataError`` where no prompt of a kind fits the model's context."""
    if not inputs:
        return {}
    asked = [loaded.chat.user_ids(p.text, think=True) for p in prompts]
    base, ours = prompt_states(spec, loaded, asked, any(one != "base" for one in inputs), "training prompts")
    harmful_X = np.array([p.kind == "harmful" for p in prompts])
    there_X = ~features_of("base", base, None).missing.numpy()
    if not (there_X & harmful_X).any() or not (there_X & ~harmful_X).any():
        raise DataError(
            f"stage.methods=[refusal_direction]: of the harmful or the benign prompts of dataset={spec.dataset.name} "
            "none fits the model's context; name another data set, or leave the method out"
        )
    return {one: refusal_direction(features_of(one, base, ours), harmful_X) for one in inputs}
