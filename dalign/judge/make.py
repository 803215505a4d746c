"""Builds the judge that a spec names, behind the screen that all judges share."""

from __future__ import annotations

from pathlib import Path

from dalign.judge.base import Judge, Screened
from dalign.judge.grades import GRADERS, AnswerJudge
from dalign.judge.refusal import PhraseJudge
from dalign.specs.run import PathsSpec
from dalign.specs.sampling import JudgeSpec


def make_judge(spec: JudgeSpec, *, world_seed: int, paths: PathsSpec) -> Judge:
    """The judge of ``spec``, screened. Raises ``ModelError`` or ``DataError`` if its model is not there."""
    return Screened(_bare(spec, world_seed, paths))


def _bare(spec: JudgeSpec, world_seed: int, paths: PathsSpec) -> Judge:
    if spec.kind == "phrases":
        return PhraseJudge(spec.name)
    if spec.kind in ("toy_truth", "toy_refusal"):
        from dalign.judge.toy_truth import ToyRefusal, ToyTruth
        from dalign.toy.world import World

        kind = ToyTruth if spec.kind == "toy_truth" else ToyRefusal
        return kind(spec.name, World.of(world_seed))
    if spec.kind == "toy_guard":
        from dalign.judge.toy_guard import ToyGuard
        from dalign.toy.assets import toy_models

        folder = toy_models(world_seed, Path(paths.cache).expanduser()) / "guard"
        return ToyGuard(spec, Path(spec.id).expanduser() if spec.id is not None else folder)
    return AnswerJudge(spec.name, GRADERS[spec.kind])
