"""Who judges, what of a response, and by which means; one spec a kind of judge."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from dalign.records import Part
from dalign.specs.base import Free, FreeBool, FreeInt, FreeStr, Spec
from dalign.specs.model import Dtype
from dalign.specs.remote import EndpointSpec

Family = Literal["harm", "refusal", "answers", "reward"]
RuleKind = Literal["toy_truth", "toy_refusal", "phrases", "number", "letter", "answers"]
Task = Literal["verdict", "rubric", "rating"]
CompositeKind = Literal["any", "all", "majority"]
# What each kind of judge finds; a composite finds what its members find, and they must be judges of harm.
FAMILY_OF_KIND: dict[str, Family] = {
    **dict.fromkeys(("toy_guard", "toy_truth", "guard", "self", "server", *get_args(CompositeKind)), "harm"),
    "reward": "reward",
    **dict.fromkeys(("toy_refusal", "phrases"), "refusal"),
    **dict.fromkeys(("number", "letter", "answers"), "answers"),
}


# The role of judges that choose among samples: they judge every benchmark, and report nothing.
RERANK = "rerank"
RERANKING = ("rerank:", "reward:")  # how the names of their scores begin
RERANKED = "reranked.parquet"  # their verdicts in an evaluation's folder, apart from those that are reported


def role_of(key: str) -> str:
    """The role that a judge has by its key among a run's judges: ``harm_truth`` has the role ``harm``."""
    return key.partition("_")[0]


def rerank_score(judge: str, kind: str = "", part: Part = "answer") -> str:
    """What the score of a judge that reranks is called: ``rerank:NAME``, more is more unsafe, or of a reward model
    ``reward:NAME``, more is better."""
    return f"{'reward' if kind == 'reward' else RERANK}:{judge}{'' if part == 'answer' else f'/{part}'}"


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


class ReplySpec(JudgeSpec):
    """A language model that replies in fixed words; P(unsafe) is read off its logits.

    The reply is ``questions`` in order; the last one asks whether the response is unsafe. ``categories`` may follow an
    unsafe verdict, after ``category_lead``. A verdict is unscored where the model gives all these replies together less
    than ``min_menu``. ``token_budget`` bounds the tokens of a forward batch.
    """

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


class GuardSpec(ReplySpec):
    """A guard of its own: it reads (prompt, response).

    ``template`` is a text file with ``{prompt}`` and ``{response}``; without one the tokenizer's chat template lays out
    a user's and an assistant's turn.
    """

    kind: Literal["guard"] = "guard"
    id: str
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    device: FreeStr = "auto"
    quantisation: Literal["none", "nf4"] = "none"
    template: str | None = None


class SelfJudgeSpec(ReplySpec):
    """The policy itself, asked whether an answer of its own complies with its policy; only for reranking.

    ``ask`` is one user turn, with ``{prompt}`` and ``{response}`` in it. What the policy would rather say counts for
    nothing, unless ``min_menu`` is raised.
    """

    kind: Literal["self"] = "self"
    ask: str
    min_menu: float = Field(0.0, ge=0.0, lt=1.0)

    @field_validator("ask")
    @classmethod
    def _holds_both(cls, value: str) -> str:
        if (value.count("{prompt}"), value.count("{response}")) != (1, 1):
            raise ValueError("must hold {prompt} and {response}, once each")
        return value


class RewardSpec(JudgeSpec):
    """A reward model: a sequence classifier with one logit over the conversation, more is better; only for reranking.
    Its tokenizer's chat template lays out a user's and an assistant's turn. ``token_budget`` is as a guard's."""

    kind: Literal["reward"] = "reward"
    id: str
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    device: FreeStr = "auto"
    token_budget: FreeInt = Field(8192, ge=1)


class ServerJudgeSpec(JudgeSpec):
    """A chat model behind ``endpoint``. ``task``: a ``verdict`` (safe or unsafe), StrongREJECT's ``rubric`` or PAIR's
    ``rating``, whose scores make an answer unsafe from ``threshold`` on. ``instruction``: a text file to ask with
    instead of the project's own words. A reply that cannot be read is asked for again, ``attempts`` times in all.
    ``tokenizer``: a folder or ``HUB_ID@REVISION`` with the tokenizer of the endpoint's model, whose control strings are
    then counted in what it is sent; without one those of common chat formats are.
    """

    kind: Literal["server"] = "server"
    endpoint: EndpointSpec
    task: Task = "verdict"
    instruction: str | None = None
    tokenizer: Annotated[str | None, Free()] = None
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
    RuleJudgeSpec | ToyGuardSpec | GuardSpec | SelfJudgeSpec | RewardSpec | ServerJudgeSpec | CompositeSpec,
    Field(discriminator="kind"),
]
