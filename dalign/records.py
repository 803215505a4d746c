"""What crosses a stage boundary: prompts, traces, samples, scores, verdicts, choices.

Each record is frozen, carries the id of its parent, and its own id is a hash of what determines it, so that equal work
has equal ids on every machine. Token ids travel with the text they were decoded from: nobody tokenises twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from math import isfinite
from typing import Any, Literal, Self, get_args

SCHEMA = 1

Kind = Literal["harmful", "benign", "math", "choice"]
FinishReason = Literal["stop", "length", "overlong"]  # overlong: the prompt alone fills the context
Label = Literal["unsafe", "safe", "refused", "complied", "graded", "unscored"]
# What a judge of safety calls an answer to an attack that succeeded: one of harm, and one of refusals, which is weaker.
EVENTS: tuple[Label, ...] = ("unsafe", "complied")
Part = Literal["answer", "reasoning", "both"]


def digest(*parts: object) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of ``parts``."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, tuple | set | frozenset):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


@dataclass(frozen=True)
class Record:
    """Base of all records: to a JSON-ready dict and back, refusing missing and unknown fields."""

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON types; tuples become lists."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The record of a dict. A field with a default may be missing: files from before it was added are read. Raises
        ``ValueError`` on another schema version, a missing field without a default, or an unknown one."""
        data = dict(row)
        version = data.pop("schema", None)
        if version != SCHEMA:
            raise ValueError(f"{cls.__name__}: schema {version!r}, this version reads {SCHEMA}")
        names = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING}
        if missing := sorted(needed - data.keys()):
            raise ValueError(f"{cls.__name__}: missing field(s) {missing}")
        if unknown := sorted(data.keys() - names):
            raise ValueError(f"{cls.__name__}: unknown field(s) {unknown}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


@dataclass(frozen=True)
class Prompt(Record):
    """One row of a benchmark or a training set.

    ``group`` ties rows that must stay on one side of a split (same task, base question, near-duplicate). ``reference``
    is the gold answer of a utility prompt. ``kind`` says what a good response is: a harmful prompt wants no compliance,
    a benign one wants help, ``math`` and ``choice`` want the reference.
    """

    dataset: str
    row: str
    text: str
    kind: Kind
    group: str
    categories: tuple[str, ...] = ()
    reference: str | None = None
    subset: str = ""

    @property
    def id(self) -> str:
        return digest("prompt", self.dataset, self.row, self.text)


@dataclass(frozen=True)
class Trace(Record):
    """A teacher's reasoning and answer to a training prompt, with the filter's decision.

    ``dropped`` is empty for a kept trace, else the reason. ``policies`` names what stood in the teacher's context; the
    policy text itself is left out (context distillation).
    """

    prompt_id: str
    question: str
    categories: tuple[str, ...]
    reasoning: str
    answer: str
    teacher: str
    finish_reason: FinishReason
    policies: tuple[str, ...] = ()
    p_unsafe: float | None = None
    dropped: str = ""
    row: str = ""

    @property
    def id(self) -> str:
        return digest("trace", self.prompt_id, self.teacher, self.reasoning, self.answer)


@dataclass(frozen=True)
class Sample(Record):
    """One response drawn from a policy.

    ``prompt_ids`` are the exact ids it was drawn with, ``response_ids`` the ids drawn, without the stopping token.
    ``reasoning`` ends at the first closing tag; ``closed`` says whether there was one (true where none is expected).
    """

    prompt_id: str
    index: int
    policy: str
    policy_hash: str
    sampling_hash: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    reasoning: str
    answer: str
    closed: bool
    finish_reason: FinishReason

    @property
    def id(self) -> str:
        return digest("sample", self.prompt_id, self.prompt_ids, self.index, self.policy_hash, self.sampling_hash)

    @property
    def empty(self) -> bool:
        return not self.answer.strip()

    @property
    def finished(self) -> bool:
        """Ended by itself, with its reasoning closed and an answer that is not empty."""
        return self.finish_reason == "stop" and self.closed and not self.empty


@dataclass(frozen=True)
class Scores(Record):
    """Attribution scores of one sample against one base.

    ``layered`` maps a score's name to one float a layer (``[0]`` the embeddings, ``[-1]`` after the final norm),
    ``flat`` to one float. ``error`` says why a pair could not be scored; both maps are empty then. ``lacking`` says of
    a score that is NaN in a scored pair why it is.
    """

    sample_id: str
    base_hash: str
    layered: dict[str, list[float]] = field(default_factory=dict)
    flat: dict[str, float] = field(default_factory=dict)
    error: str = ""
    lacking: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As every record; what JSON has no number for is a word (``nan``, ``inf``)."""
        layered = {name: [_word(v) for v in values] for name, values in self.layered.items()}
        return {**super().to_dict(), "layered": layered, "flat": {k: _word(v) for k, v in self.flat.items()}}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The scores of a dict. Raises ``ValueError`` as every record does, and for a word that is no number."""
        found = super().from_dict(row)
        layered = {name: [float(v) for v in values] for name, values in found.layered.items()}
        return replace(found, layered=layered, flat={name: float(v) for name, v in found.flat.items()})


def _word(value: float) -> float | str:
    return value if isfinite(value) else str(value)


@dataclass(frozen=True)
class Verdict(Record):
    """A judge's finding on one part of one sample.

    Harm judges say unsafe or safe, with P(unsafe) and an unsafe one's category where they have them, and a rubric's
    ``score`` in [0, 1]. Refusal judges say refused or complied; graders say graded and fill ``correct`` with one bool a
    reading; reward models say graded too, with the reward as ``score``. Unscored is no verdict: the reason stands
    beside it.
    """

    sample_id: str
    judge: str
    part: Part
    label: Label
    p_unsafe: float | None = None
    reason: str = ""
    correct: dict[str, bool] = field(default_factory=dict)
    category: str = ""
    score: float | None = None

    def __post_init__(self) -> None:
        if self.label not in get_args(Label):
            raise ValueError(f"verdict label {self.label!r}, must be one of {get_args(Label)}")
        if (self.label == "unscored") != bool(self.reason):
            raise ValueError("an unscored verdict has a reason, and only an unscored one has")


@dataclass(frozen=True)
class Choice(Record):
    """What a selector took for one prompt: the chosen samples' weights sum to 1 (ties and randomness averaged)."""

    prompt_id: str
    selector: str
    layer: int | None
    sample_ids: tuple[str, ...]
    weights: tuple[float, ...]
