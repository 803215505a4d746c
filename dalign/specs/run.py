"""The whole configuration of a run: what ``config.yaml`` holds, and what a worker is given."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt, field_validator

from dalign.specs.attack import Attack
from dalign.specs.base import Free, FreeBool, FreeInt, FreeStr, Spec
from dalign.specs.calibrate import AbstainSpec, CalibrateSpec
from dalign.specs.data import BenchmarkSpec, DatasetSpec
from dalign.specs.judge import AnyJudge
from dalign.specs.model import ModelSpec
from dalign.specs.protocol import ProtocolSpec
from dalign.specs.sampling import AttributionSpec, SamplerSpec, SelectorSpec
from dalign.specs.stage import LoggerSpec, Stage, TeacherSpec, TrainerSpec


class PathsSpec(Spec):
    """``runs`` holds the run folders, ``data`` local benchmark files, ``cache`` worlds made by ``make world``."""

    runs: FreeStr = "runs"
    data: FreeStr = "data"
    cache: FreeStr = "~/.cache/dalign"


class InputsSpec(Spec):
    """Artifacts of other runs, read instead of this run's own: a traces file, an adapter folder or hub id, a probe.
    Several traces files are learnt together."""

    traces: str | tuple[str, ...] | None = None
    adapter: str | None = None
    probe: str | None = None

    @property
    def traces_files(self) -> tuple[str, ...]:
        """The traces files that are named, in their order."""
        return self.traces if isinstance(self.traces, tuple) else (self.traces,) if self.traces is not None else ()

    @field_validator("traces")
    @classmethod
    def _some_and_different(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
            raise ValueError("names no file, or one twice")
        return value


class ReportSpec(Spec):
    """What index.html holds of the samples: ``samples`` of them at most, as whole prompts, evenly from every benchmark.
    Without ``texts`` it holds their scores, verdicts and choices alone, for a report that is passed on. ``calibrate``
    and ``abstain`` say how what is fitted on verdicts is fitted."""

    samples: FreeInt = Field(20_000, ge=0)
    texts: FreeBool = True
    calibrate: Annotated[CalibrateSpec, Free()] = CalibrateSpec()
    abstain: Annotated[AbstainSpec, Free()] = AbstainSpec()


class RunSpec(Spec):
    """One job. ``stage`` is null for an evaluation, ``attack`` for one that asks the prompts as they are. ``judges``
    and ``benchmark`` map a name to its spec; a judge's role is its name up to the first underscore (``harm``,
    ``harm_truth``), so that a role may have several judges. ``command`` holds the overrides that the job was asked for
    with.
    """

    run: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._=,+-]*(/[A-Za-z0-9][A-Za-z0-9._=,+-]*)*$")
    seed: int = Field(0, ge=0)
    world_seed: int = Field(0, ge=0)
    limit: PositiveInt | None = None
    paths: PathsSpec = PathsSpec()
    inputs: InputsSpec = InputsSpec()
    model: ModelSpec
    teacher: TeacherSpec
    dataset: DatasetSpec
    sampler: SamplerSpec
    attribution: AttributionSpec
    selector: SelectorSpec
    judges: dict[str, AnyJudge]
    benchmark: dict[str, BenchmarkSpec]
    protocol: ProtocolSpec = ProtocolSpec()
    stage: Annotated[Stage, Field(discriminator="name")] | None = None
    attack: Attack | None = None
    trainer: TrainerSpec
    logger: LoggerSpec
    report: ReportSpec = ReportSpec()
    policies: Annotated[tuple[str, ...], Free()] = ("base", "distill")
    command: Annotated[tuple[str, ...], Free()] = ()
