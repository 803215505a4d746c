"""What the control scores of stage=control lack: labels, and something to do."""

from __future__ import annotations

from collections.abc import Iterator

from dalign.config.judging import may_teach
from dalign.config.problems import Problem
from dalign.errors import did_you_mean
from dalign.specs.run import RunSpec
from dalign.specs.stage import ControlStage


def control_problems(spec: RunSpec, stage: ControlStage) -> Iterator[Problem]:
    """What the controls need and have not, the policy apart; whether an evaluation is there, the stage itself tells."""
    judge = spec.judges.get(stage.judge)
    if "closings" in stage.asked and judge is None:
        hint = did_you_mean(stage.judge, list(spec.judges))
        yield Problem("stage.judge", f"stage.judge={stage.judge}: no such key of judges; {hint}")
    elif "closings" in stage.asked and judge is not None:
        yield from may_teach("stage.judge", judge, "control")
    if not stage.asked:
        text = "stage.unrelated is not set, and stage.controls=[unrelated] asks for nothing else"
        yield Problem("stage.unrelated", f"{text}; give a checkpoint of the student's shape: stage.unrelated=FOLDER")
