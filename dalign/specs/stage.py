"""What each stage of train.py does, beyond the groups it shares with the others."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from dalign.specs.base import Free, FreeInt, Spec
from dalign.specs.control import CONTROLS, Control
from dalign.specs.grpo import GrpoStage
from dalign.specs.model import Dtype
from dalign.specs.optimiser import OptimiserSpec
from dalign.specs.probe import PLAIN, Baseline, Input, Method, Pooling, Variant
from dalign.specs.sampling import SamplerSpec

StageName = Literal["pretrain", "traces", "distill", "grpo", "probe", "control"]


class TeacherSpec(Spec):
    """A reasoning model that answers with the policies in its context, or ``ready_made`` traces of a data set.

    ``id`` is as a model's, ``toy`` the embedded world's teacher. ``sampler`` draws one response a prompt. ``system``
    says how the instructions enter: a system turn, before the question in the user turn (for chat templates without a
    system role), or not at all: ``none`` asks any checkpoint the question alone.
    """

    name: str
    kind: Literal["model", "ready_made"] = "model"
    id: str | None = None
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    system: Literal["system", "user", "none"] = "system"
    device: Annotated[str, Free()] = "auto"
    sampler: SamplerSpec | None = None


class FilterSpec(Spec):
    """What a trace must be to be kept. ``judge`` null filters by form and length alone, and the stage says so."""

    judge: bool = True
    max_p_unsafe: float = Field(0.5, gt=0.0, le=1.0)
    min_reasoning_chars: int = Field(1, ge=0)
    max_chars: PositiveInt = 20_000


class TracesStage(Spec):
    """prompts + policies -> teacher -> traces -> filter -> kept | dropped(reason)."""

    name: Literal["traces"] = "traces"
    filter: FilterSpec = FilterSpec()


class DistillStage(OptimiserSpec):
    """LoRA SFT of the student on kept traces (LitDistill).

    ``batch`` examples make an optimiser step, in micro-batches of at most ``micro_batch_tokens`` padded tokens; the
    loss is the mean over the completion tokens of the whole step. ``bucket`` rounds lengths up: few shapes occur.
    ``max_length`` drops (and counts) longer examples. ``max_steps`` ends before ``epochs`` do.
    """

    name: Literal["distill"] = "distill"
    batch: PositiveInt = 16
    micro_batch_tokens: FreeInt = Field(4096, ge=1)
    bucket: PositiveInt = 128
    epochs: PositiveInt = 3
    max_steps: PositiveInt | None = None
    max_length: PositiveInt = 2048
    validation: float = Field(0.05, ge=0.0, lt=1.0)
    validate_every: PositiveInt = 50
    checkpoint_every: FreeInt = Field(50, ge=1)


class ProbeStage(Spec):
    """Linear probes a layer over frozen states of judged samples, out of fold by group (LitProbe).

    ``l2`` is the weight of half the squared norm in the mean loss, on standardised states; ``steps`` bounds the
    iterations of L-BFGS. The plain probe is always trained; ``methods`` x ``inputs`` x ``poolings`` (null: where
    attribution reads) are further ones; ``refusal_direction`` takes at most ``direction_prompts`` harmful and as many
    harmless prompts of the training set. ``baselines`` and ``leave_out`` (each benchmark from the fit that scores it)
    fill the table of probes alone. ``labels`` names a file of labelled answers, taken instead of a judge's verdicts.
    """

    name: Literal["probe"] = "probe"
    policy: str = "distill"
    judge: str = "harm"
    folds: int = Field(5, ge=2)
    l2: float = Field(1e-2, ge=0.0)
    steps: PositiveInt = 200
    methods: tuple[Method, ...] = ("logistic",)
    inputs: tuple[Input, ...] = ("base",)
    poolings: tuple[Pooling, ...] | None = None
    baselines: tuple[Baseline, ...] = ("length", "ending", "words")
    leave_out: bool = True
    direction_prompts: PositiveInt = 512
    labels: Annotated[str | None, Free()] = None  # its hash is among the stage's inputs

    def variants(self, position: Pooling) -> dict[str, Variant]:
        """The probes of the set by the names of their scores, the plain one first."""
        plain = Variant("logistic", "base", position)
        every = product(self.methods, self.inputs, self.poolings or (position,))
        others = {v.score: v for v in map(Variant._make, every) if v != plain}
        return {PLAIN: plain, **others}

    def results(self) -> dict[str, Any]:
        """As of every spec; what was added later is left out at its default, so that older folders go on."""
        later = ("methods", "inputs", "poolings", "baselines", "leave_out", "direction_prompts")
        kept = {name: getattr(self, name) != type(self).model_fields[name].default for name in later}
        return {name: value for name, value in super().results().items() if kept.get(name, True)}


class ControlStage(Spec):
    """A finished evaluation's samples scored again with one thing changed: each change is a control (specs/control.py).

    ``draws`` random adapters; ``unrelated`` names another checkpoint of the student's shape and vocabulary (a folder,
    or a hub id with ``@REVISION``), null leaves its control out. ``closings`` swaps the last sentence of answers, or so
    many of their last words, by the labels of ``judge``; ``same_closing`` puts ``sentence`` behind every answer.
    """

    name: Literal["control"] = "control"
    policy: str = "distill"
    controls: tuple[Control, ...] = Field(CONTROLS, min_length=1)
    draws: PositiveInt = 3
    unrelated: Annotated[str | None, Free()] = None  # its hash is among its control's inputs
    judge: str = "harm"
    closing: PositiveInt | Literal["sentence"] = "sentence"
    sentence: str = Field("I hope this helps.", min_length=1)

    @property
    def asked(self) -> tuple[Control, ...]:
        """The controls to be made, each once."""
        return tuple(c for c in dict.fromkeys(self.controls) if c != "unrelated" or self.unrelated is not None)


class PretrainStage(Spec):
    """Trains the embedded world's models (base, teacher, guard) for ``world_seed``."""

    name: Literal["pretrain"] = "pretrain"


Stage = TracesStage | DistillStage | GrpoStage | ProbeStage | ControlStage | PretrainStage


class TrainerSpec(Spec):
    """Where and how training runs. ``threads`` 0 takes every core; it is recorded, since sums depend on it.

    ``strategy=ddp`` trains in ``devices`` processes, each with a device and a share of every step of its own.
    """

    name: str
    accelerator: Annotated[Literal["cpu", "gpu", "auto"], Free()] = "auto"
    devices: FreeInt = Field(1, ge=1)
    strategy: Annotated[Literal["auto", "ddp"], Free()] = "auto"
    threads: FreeInt = Field(0, ge=0)

    @property
    def processes(self) -> int:
        """How many train together."""
        return self.devices if self.strategy == "ddp" else 1


class LoggerSpec(Spec):
    """Where metrics go besides ``metrics.jsonl``, which is always written."""

    name: Literal["csv", "wandb", "wandb_offline", "tensorboard"]
    project: str = "dalign"
    entity: str | None = None
