"""What each control changes: the samples that are read, or the models that read them; a pass makes one score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from itertools import groupby
from typing import NamedTuple

from dalign.adapters import checkpoint_hash
from dalign.attribute.random_adapter import random_adapter
from dalign.attribute.unrelated import against, source_of
from dalign.drawing import with_answer
from dalign.models import LoadedModel
from dalign.policies import Policy, load_policy, policy_inputs
from dalign.records import Sample
from dalign.specs.control import CONTROL, Control
from dalign.specs.run import RunSpec
from dalign.specs.stage import ControlStage
from dalign.stages.control_texts import swapped_closings


class Pass(NamedTuple):
    """A score by its name, the samples as it reads them (under their own ids), and the models to read them with."""

    score: str
    samples: Sequence[Sample]
    models: Callable[[], AbstractContextManager[LoadedModel]]


class Models:
    """The policy, and the same student beside the unrelated checkpoint; each is loaded when it is first asked for."""

    def __init__(self, spec: RunSpec, stage: ControlStage) -> None:
        self.spec, self.stage = spec, stage

    @cached_property
    def policy(self) -> Policy:
        """The policy whose samples are read."""
        return load_policy(self.spec, self.stage.policy)

    @cached_property
    def unrelated(self) -> LoadedModel:
        """The policy's student against ``stage.unrelated``. Raises ``ModelError`` if that does not compare."""
        name, spec = str(self.stage.unrelated), self.spec
        return against(self.policy.loaded, "stage.unrelated", name, paths=spec.paths, world_seed=spec.world_seed)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """What the policy is made of, found without loading it."""
        return policy_inputs(self.spec, self.stage.policy)

    @cached_property
    def unrelated_hash(self) -> str:
        """The hash of ``stage.unrelated``, found without loading it."""
        spec = self.spec
        return checkpoint_hash(*source_of(str(self.stage.unrelated), paths=spec.paths, world_seed=spec.world_seed))

    def of(self, control: Control) -> LoadedModel:
        """The models that a control reads with, the adapter as it was trained."""
        return self.unrelated if control == "unrelated" else self.policy.loaded


def passes_of(
    control: Control, models: Models, samples: Sequence[Sample], unsafe: Mapping[str, bool]
) -> Iterator[Pass]:
    """The passes of a control over samples, which come prompt after prompt; ``unsafe`` holds the labels of answers."""
    stage, loaded, name = models.stage, models.of(control), f"{CONTROL}{control}"
    if control == "random_lora":
        for draw in range(stage.draws):
            yield Pass(f"{name}-{draw}", samples, partial(random_adapter, loaded, models.spec.seed, draw))
        return
    read: Sequence[Sample] = samples
    if control == "closings":
        read = _swapped(models, samples, unsafe)
    if control == "same_closing":
        read = [_ending(models, s) if s.finished else s for s in samples]
    yield Pass(name, read, lambda: nullcontext(loaded))


def _swapped(models: Models, samples: Sequence[Sample], unsafe: Mapping[str, bool]) -> list[Sample]:
    """The samples with the ends of their answers swapped within each prompt."""
    out: list[Sample] = []
    for _, members in groupby(samples, key=lambda s: s.prompt_id):
        own = list(members)
        labels = [unsafe.get(s.id) if s.finished else None for s in own]
        answers = swapped_closings([s.answer for s in own], labels, models.stage.closing)
        out += [_saying(models, s, answer) for s, answer in zip(own, answers, strict=True)]
    return out


def _ending(models: Models, sample: Sample) -> Sample:
    return _saying(models, sample, f"{sample.answer.rstrip()} {models.stage.sentence}")


def _saying(models: Models, sample: Sample, answer: str) -> Sample:
    return sample if answer == sample.answer else with_answer(models.policy, sample, answer)
