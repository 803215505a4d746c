"""Kept traces -> training examples: the exact ids that sampling will see, then the completion that is learnt.

Nothing is ever cut: an example that is too long, or lacks a part, is dropped and counted under its reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dalign.errors import DataError
from dalign.records import Trace

if TYPE_CHECKING:
    from dalign.chat import Chat


@dataclass(frozen=True)
class Example:
    """Prompt and completion as one run of ids; the loss covers ``ids[completion_start:]``. ``group`` never splits."""

    id: str
    group: str
    ids: tuple[int, ...]
    completion_start: int

    def __post_init__(self) -> None:
        if not 0 < self.completion_start < len(self.ids):
            raise ValueError(f"example {self.id}: completion starts at {self.completion_start} of {len(self.ids)} ids")

    @property
    def completion_tokens(self) -> int:
        return len(self.ids) - self.completion_start


@dataclass(frozen=True)
class ExampleSet:
    """Both sides of the split, and how many traces were dropped for which reason."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    dropped: Mapping[str, int]


def question_group(question: str) -> str:
    """Equal for questions that differ in case or white space alone: such traces stay on one side of the split."""
    return hashlib.sha256(" ".join(question.casefold().split()).encode()).hexdigest()[:16]


def in_validation(group: str, share: float) -> bool:
    """Whether a group is held out: by its own hash, so that another teacher's traces hold out the same questions."""
    return int(group, 16) < share * 16**16


def build_examples(
    traces: Sequence[Trace], chat: Chat, *, max_length: int, context: int, validation: float
) -> ExampleSet:
    """The examples of ``traces``, in their order, split by question.

    Dropped: traces the filter dropped (``filtered``), with an empty ``reasoning`` (where it is expected) or ``answer``,
    longer than ``max_length`` or the model's ``context`` (``over_long``), or given twice (``duplicate``).
    Raises ``DataError`` if nothing is left to train on.
    """
    limit = min(max_length, context)
    dropped: Counter[str] = Counter()
    examples: dict[str, Example] = {}
    for trace in traces:
        reason = _fault(trace, expects_reasoning=chat.think.where != "none")
        if not reason and trace.id in examples:
            reason = "duplicate"
        if not reason:
            example = _render(trace, chat)
            reason = "over_long" if len(example.ids) > limit else ""
        if reason:
            dropped[reason] += 1
        else:
            examples[trace.id] = example
    counts = dict(sorted(dropped.items()))
    if not examples:
        raise DataError(
            f"no trace is left to train on: {len(traces)} read, dropped {counts}; "
            f"over_long counts more than {limit} tokens (stage.max_length={max_length}, the model's context {context})"
        )
    train, held_out = _split(tuple(examples.values()), validation)
    return ExampleSet(train, held_out, counts)


def _fault(trace: Trace, *, expects_reasoning: bool) -> str:
    if trace.dropped:
        return "filtered"
    if expects_reasoning and not trace.reasoning.strip():
        return "empty_reasoning"
    return "" if trace.answer.strip() else "empty_answer"


def _render(trace: Trace, chat: Chat) -> Example:
    prompt = chat.user_ids(trace.question, think=True)
    completion = chat.completion_ids(trace.reasoning, trace.answer)
    return Example(trace.id, question_group(trace.question), (*prompt, *completion), len(prompt))


def _split(examples: tuple[Example, ...], share: float) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Train and validation. With a share above 0 and two groups or more, neither side is empty."""
    groups = sorted({e.group for e in examples})
    if share == 0 or len(groups) < 2:
        return examples, ()
    held_out = {g for g in groups if in_validation(g, share)} or {groups[0]}
    if len(held_out) == len(groups):
        held_out.discard(groups[-1])
    train = tuple(e for e in examples if e.group not in held_out)
    return train, tuple(e for e in examples if e.group in held_out)
