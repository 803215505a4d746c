"""Builds the judge that a spec names, behind the screen that all judges share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dalign.errors import ConfigError
from dalign.judge.base import Judge, Screened
from dalign.judge.composite import Composite
from dalign.judge.grades import GRADERS, AnswerJudge
from dalign.judge.refusal import PhraseJudge
from dalign.specs.judge import (
    CompositeSpec,
    GuardSpec,
    JudgeSpec,
    RewardSpec,
    SelfJudgeSpec,
    ServerJudgeSpec,
    ToyGuardSpec,
)
from dalign.specs.run import PathsSpec


def make_judge(
    spec: JudgeSpec, *, world_seed: int, paths: PathsSpec, others: Mapping[str, JudgeSpec] | None = None
) -> Judge:
    """The judge of ``spec``, screened; a composite finds its members in ``others``, by their keys, and all of them are
    loaded. Raises ``ModelError`` or ``DataError`` if a model is not there."""
    if isinstance(spec, CompositeSpec):
        members = [make_judge((others or {})[key], world_seed=world_seed, paths=paths) for key in spec.of]
        return make_composite(spec, members)
    return Screened(_bare(spec, world_seed, paths))


def make_composite(spec: CompositeSpec, members: Sequence[Judge]) -> Judge:
    """The composite of ``spec`` over judges at hand, in the order it names them, screened."""
    return Screened(Composite(spec, members))


def _bare(spec: JudgeSpec, world_seed: int, paths: PathsSpec) -> Judge:
    if isinstance(spec, GuardSpec):
        from dalign.judge.guard import Guard

        return Guard(spec)
    if isinstance(spec, RewardSpec):
        from dalign.judge.reward import RewardModel

        return RewardModel(spec)
    if isinstance(spec, SelfJudgeSpec):
        raise ConfigError(f"judge {spec.name}: a policy judges itself inside an evaluation alone; name another judge")
    if isinstance(spec, ServerJudgeSpec):
        from dalign.judge.server import ServerJudge

        return ServerJudge(spec)
    if isinstance(spec, ToyGuardSpec):
        from dalign.judge.toy_guard import ToyGuard

        return ToyGuard(spec, guard_folder(spec, world_seed, paths))
    if spec.kind == "phrases":
        return PhraseJudge(spec.name)
    if spec.kind in ("toy_truth", "toy_refusal"):
        from dalign.judge.toy_truth import ToyRefusal, ToyTruth
        from dalign.toy.world import World

        kind = ToyTruth if spec.kind == "toy_truth" else ToyRefusal
        return kind(spec.name, World.of(world_seed))
    return AnswerJudge(spec.name, GRADERS[spec.kind])


def guard_folder(spec: ToyGuardSpec, world_seed: int, paths: PathsSpec) -> Path:
    """Where the embedded world's guard is: the folder that ``spec`` names, else its world's own."""
    from dalign.toy.assets import toy_models

    if spec.id is not None:
        return Path(spec.id).expanduser()
    return toy_models(world_seed, Path(paths.cache).expanduser()) / "guard"
