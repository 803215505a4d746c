"""Asks forbidden questions under jailbreak prompts, many of which carry none of their own.

The pairing is a rule, not a draw: prompt i (from 0, of any number) takes the questions i, i + s, i + 2s, ... modulo
their number Q, with s = Q // per_prompt. So each question is asked about equally often, and those of one prompt lie
apart in the file, which lists them by policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dalign.errors import DataError
from dalign.prompts.grouping import group_names, normalised
from dalign.prompts.readers import source_ids
from dalign.prompts.sources import check_count, source_rows
from dalign.records import Prompt
from dalign.specs.data import QuestionsSpec
from dalign.specs.run import PathsSpec


@dataclass(frozen=True)
class Question:
    """A question with its source id, the group of those equal to it, and the subset it belongs to."""

    row: str
    text: str
    group: str
    subset: str


def load_questions(spec: QuestionsSpec, key: str, paths: PathsSpec) -> tuple[Question, ...]:
    """The questions of ``spec`` in file order.

    Raises ``DataError`` for what cannot be read, a count that is not ``expected_rows``, and fewer questions than
    ``per_prompt``.
    """
    rows = source_rows(spec, key, paths, spec.format)
    check_count(len(rows), spec.expected_rows, key)
    if spec.per_prompt > len(rows):
        raise DataError(f"{key}.per_prompt={spec.per_prompt}: there are {len(rows)} questions; ask for at most those")
    texts = [row.text(spec.text) for row in rows]
    ids = source_ids(rows, spec.row_id)
    groups = group_names(ids, [[normalised(text) for text in texts]])
    subsets = [row.label(spec.subset).strip() if spec.subset is not None else "" for row in rows]
    return tuple(Question(*parts) for parts in zip(ids, texts, groups, subsets, strict=True))


def ask(prompts: Sequence[Prompt], questions: Sequence[Question], per_prompt: int) -> tuple[Prompt, ...]:
    """``per_prompt`` prompts for each of ``prompts``: a question below it, in the question's group and subset.

    The row's id is ``PROMPT:QUESTION``. A prompt with a blank for a request keeps it; the question stands at the end.
    """
    stride = len(questions) // per_prompt
    return tuple(
        _asked(prompt, questions[(i + j * stride) % len(questions)])
        for i, prompt in enumerate(prompts)
        for j in range(per_prompt)
    )


def _asked(prompt: Prompt, question: Question) -> Prompt:
    return Prompt(
        dataset=prompt.dataset,
        row=f"{prompt.row}:{question.row}",
        text=f"{prompt.text}\n\n{question.text}",
        kind=prompt.kind,
        group=question.group,
        categories=prompt.categories,
        subset=question.subset,
    )
