"""One job in a process of its own: reads a resolved configuration, does the stage or evaluation, tells how it ended.

A sweep's jobs share nothing this way: no distributed environment, no tracker run, no thread count leaks from one job to
the next (Lightning and Hydra in one process trained on half the data in silence). Exit code 2 is for the user to mend,
1 is a bug.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from dalign.errors import ConfigError
from dalign.joining import ended, joined
from dalign.process import quiet, set_threads
from dalign.ranks import Ranks
from dalign.specs.grpo import GrpoStage
from dalign.specs.run import RunSpec
from dalign.specs.stage import ControlStage, DistillStage, PretrainStage, ProbeStage, TracesStage


def main(argv: list[str] | None = None) -> int:
    """Runs one job and returns its exit code."""
    parser = argparse.ArgumentParser(prog="dalign worker", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", required=True, type=Path, help="the resolved configuration, JSON")
    parser.add_argument("--verb", required=True, choices=["train", "evaluate"])
    args = parser.parse_args(argv)

    def job() -> int:
        run(RunSpec.model_validate(json.loads(args.config.read_text(encoding="utf-8"))), args.verb)
        return 0

    return ended(job)


def run(spec: RunSpec, verb: str) -> None:
    """Does what ``spec`` says in this process; as one of several, its share of what the first one's ``spec`` says."""
    quiet()
    set_threads(spec.trainer.threads, sharing=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    with joined(spec.trainer) as ranks:
        run_as(ranks.leaders(spec), verb, ranks)


def run_as(spec: RunSpec, verb: str, ranks: Ranks) -> None:
    """Does what ``spec`` says, as one of ``ranks``."""
    if ranks.world > 1 and not (verb == "train" and isinstance(spec.stage, DistillStage | GrpoStage)):
        raise ConfigError(f"trainer={spec.trainer.name}: stage=distill and stage=grpo alone run in several processes")
    if spec.attack is not None:
        from dalign.attack.run import run_attack

        run_attack(spec)
        return
    if verb == "evaluate":
        from dalign.evaluator import evaluate

        evaluate(spec)
        return
    _stage(spec, ranks)()


def _stage(spec: RunSpec, ranks: Ranks) -> Callable[[], None]:
    """The stage's function, imported only now: each pulls in what it alone needs."""
    stage = spec.stage
    if isinstance(stage, TracesStage):
        from dalign.stages.traces import run_traces

        return lambda: run_traces(spec, stage)
    if isinstance(stage, DistillStage):
        from dalign.stages.distill import run_distill

        return lambda: run_distill(spec, stage, ranks)
    if isinstance(stage, GrpoStage):
        from dalign.stages.grpo import run_grpo

        return lambda: run_grpo(spec, stage, ranks)
    if isinstance(stage, ProbeStage):
        from dalign.stages.probe import run_probe

        return lambda: run_probe(spec, stage)
    if isinstance(stage, ControlStage):
        from dalign.stages.control import run_control

        return lambda: run_control(spec, stage)
    if isinstance(stage, PretrainStage):
        from dalign.stages.pretrain import run_pretrain

        return lambda: run_pretrain(spec)
    raise ConfigError("stage: none is set; choose one of pretrain, traces, distill, grpo, probe, control")


if __name__ == "__main__":
    sys.exit(main())
