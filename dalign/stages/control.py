"""stage=control: a finished evaluation's samples scored again with one thing changed, for reports to set beside.

``control/<policy>/<benchmark>/<control>/scores.safetensors`` holds a control's scores; the evaluation stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from dalign.errors import ArtifactError, ConfigError, did_you_mean
from dalign.layout import ADAPTER_POLICIES
from dalign.specs.run import RunSpec
from dalign.specs.stage import ControlStage
from dalign.stages.control_cell import ControlCell, Source
from dalign.stages.control_passes import Models
from dalign.stages.probe_rows import trainable_judge

console = Console(stderr=True)


def run_control(spec: RunSpec, stage: ControlStage) -> None:
    """Makes the controls of ``stage`` on every benchmark of ``spec``; what is finished stays as it is.

    Raises ``ConfigError`` for a policy without a base or a judge for reports alone, ``ArtifactError`` where an
    evaluation is not finished or no answer has a label, ``ModelError`` for what ``stage.unrelated`` names.
    """
    if stage.policy not in ADAPTER_POLICIES:
        raise ConfigError(f"stage.policy={stage.policy}: {did_you_mean(stage.policy, ADAPTER_POLICIES)}")
    sources = [Source.of(spec, stage.policy, benchmark.name) for benchmark in spec.benchmark.values()]
    for cell in list(_cells(Models(spec, stage), sources)):  # all of them, so that no fault is told after hours
        with cell.stage:
            if not cell.stage.finished:
                facts = cell.run()
                if facts["changed"]:
                    console.print(_said(cell, facts), highlight=False)


def _cells(models: Models, sources: Sequence[Source]) -> Iterator[ControlCell]:
    """The controls asked for, one after the other, on each benchmark; ``closings`` where answers have labels."""
    for control in models.stage.asked:
        if control != "closings":
            yield from (ControlCell(control, source, models) for source in sources)
            continue
        judge = trainable_judge(models.spec, models.stage.judge)
        labelled = [(source, unsafe) for source in sources if (unsafe := source.unsafe(judge))]
        if not labelled:
            names = ", ".join(source.benchmark for source in sources)
            raise ArtifactError(
                f"stage.judge={models.stage.judge}: {judge.name} has labelled no answer of {names}; add a benchmark "
                "that it judges, or leave closings out of stage.controls"
            )
        yield from (ControlCell(control, source, models, unsafe) for source, unsafe in labelled)


def _said(cell: ControlCell, facts: dict[str, int]) -> str:
    whole = f", {facts['whole']} of them with nothing else of their own" if facts.get("whole") else ""
    read = f"{facts['changed']} of {facts['samples']} answers were read with another end{whole}"
    return f"{cell.control} on {cell.source.benchmark}: {read}"
