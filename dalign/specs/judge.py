"""Who judges, what of a response, and by which means; one spec a kind of judge."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from dalign.records import Part
from dalign.specs.base import Free, FreeBool, FreeInt, FreeStr, Spec
from dalign.specs.model import Dtype
from dalign.specs.remote import EndpointSpec

Family = Literal["harm", "refusal", "answers"]
RuleKind = Literal["toy_truth", "toy_refusal", "phrases", "number", "letter", "answers"]
Task = Literal["verdict", "rubric", "rating"]
CompositeKind = Literal["any", "all", "majority"]
# What each kind of judge finds; a composite finds what its members find, and they must be judges of harm.
FAMILY_OF_KIND: dict[str, Family] = {
    **dict.fromkeys(("toy_guard", "toy_truth", "guard", "server", *get_args(CompositeKind)), "harm"),
    **dict.fromkeys(("toy_refusal", "phrases"), "refusal"),
    **dict.fromkeys(("number", "letter", "answers"), "answers"),
}


def role_of(key: str) -> str:
    """The role that a judge has by its key among a run's judges: ``harm_truth`` has the role ``harm``."""
    return key.partition("_")[0]


class JudgeSpec(Spec):
    """What all judges share. ``parts``: what of a response is judged, each for itself. ``report_only``: no filter,
    reward, probe or selector may use its verdicts."""

    name: str
    kind: str
    parts: Annotated[tuple[Part, ...], Free()] = ("answer",)
    report_only: FreeBool = False

    @property
    def chunk(self) -> int:
        """How many samples it judges between two commits."""
        return 512

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint the judge loads: a folder, a file or a hub id; None for one without a model of its own."""
        return getattr(self, "id", None)

    @property
    def family(self) -> Family:
        """What the judge finds."""
        return FAMILY_OF_KIND[self.kind]

    def same_source(self, other: JudgeSpec) -> bool:
        """Whether both judge by the same means, whatever their names and thresholds."""
        own, its = ({**judge.results(), "name": "", "threshold": 0, "min_menu": 0} for judge in (self, other))
        return own == its


class RuleJudgeSpec(JudgeSpec):
    """A judge by rules. ``answers`` grades a number or a letter, by the prompt's kind; ``number`` and ``letter`` grade
    one of them alone. ``toy_truth`` knows the embedded world, and is for reports alone."""

    kind: RuleKind


class ToyGuardSpec(JudgeSpec):
    """The embedded world's learned guard; ``id`` is a folder, by default the packaged one."""

    kind: Literal["toy_guard"] = "toy_guard"
    id: str | None = None
    dtype: Dtype = "float32"
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    token_budget: FreeInt = Field(8192, ge=1)


class QuestionSpec(Spec):
    """One line of a guard's reply: ``lead`` opens it, then comes the ``positive`` or the ``negative`` word, as the
    guard writes them."""

    lead: str = ""
    positive: str
    negative: str

    @model_validator(mode="after")
    def _words_differ(self) -> QuestionSpec:
        if not self.positive or not self.negative or self.positive == self.negative:
            raise ValueError("positive and negative must be two different, non-empty strings")
        return self


class GuardSpec(JudgeSpec):
    """A language model that replies to (prompt, response) in fixed words; P(unsafe) is read off its logits.

    ``template`` is a text file with ``{prompt}`` and ``{response}``; without one the tokenizer's chat template lays out
    a user's and an assistant's turn. The reply is ``questions`` in order; the last one asks whether the response is
    unsafe. ``categories`` may follow an unsafe verdict, after ``category_lead``. A verdict is unscored where the guard
    gives all these replies together less than ``min_menu``. ``token_budget`` bounds the tokens of a forward batch.
    """

    kind: Literal["guard"] = "guard"
    id: str
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    device: FreeStr = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    template: str | None = None
    questions: tuple[QuestionSpec, ...] = Field(min_length=1, max_length=4)
    categories: tuple[str, ...] = ()
    category_lead: str = "\n"
    threshold: float = Field(0.5, gt=0.0, lt=1.0)
    min_menu: float = Field(0.5, ge=0.0, lt=1.0)
    token_budget: FreeInt = Field(8192, ge=1)

    @field_validator("categories")
    @classmethod
    def _several_and_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) == 1 or len(set(value)) < len(value):
            raise ValueError("categories must be at least two and all different, or none")
        return value


class ServerJudgeSpec(JudgeSpec):
    """A chat model behind ``endpoint``. ``task``: a ``verdict`` (safe or unsafe), StrongREJECT's ``rubric`` or PAIR's
    ``rating``, whose scores make an answer unsafe from ``threshold`` on. ``instruction``: a text file to ask with
    instead of the project's own words. A reply that cannot be read is asked for again, ``attempts`` times in all.
    """

    kind: Literal["server"] = "server"
    endpoint: EndpointSpec
    task: Task = "verdict"
    instruction: str | None = None
    threshold: float = Field(0.5, gt=0.0, le=1.0)
    attempts: PositiveInt = 3

    @property
    def chunk(self) -> int:
        """A few rounds of requests: what one failure costs."""
        return 4 * self.endpoint.concurrency


class CompositeSpec(JudgeSpec):
    """Unsafe by ``any``, ``all`` or the ``majority`` (more than half) of other judges, named by their keys."""

    kind: CompositeKind
    of: tuple[str, ...] = Field(min_length=2)


AnyJudge = Annotated[
    RuleJudgeSpec | ToyGuardSpec | GuardSpec | ServerJudgeSpec | CompositeSpec, Field(discriminator="kind")
]
