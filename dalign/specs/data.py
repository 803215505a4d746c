"""Where prompts and traces come from: training sets and benchmarks, each from a hub id, a file, or the world."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from dalign.records import Kind
from dalign.specs.base import Free, Spec

Role = Literal["harm", "answers", "refusal"]
FileFormat = Literal["csv", "tsv", "json", "jsonl", "parquet"]


class DatasetSpec(Spec):
    """Training prompts or ready-made traces.

    ``format``: ``toy`` (the embedded world), ``toy_requests`` (its training tasks in more words, for GRPO), ``star1``
    (STAR-1's JSON), ``star41k`` (prompts with categories), ``published`` (the authors' filtered traces), ``jsonl``
    (question, categories, and for traces reasoning and answer).
    ``path`` is a local file, ``hub_id`` a data set of the hub; ``path`` wins. ``hub_file`` is a pattern for the files
    to take there, or in a folder that ``path`` names; without one the hub's are those named after ``split``.
    ``has_traces`` says that the rows carry reasoning and answers, as ``teacher=ready_made`` needs. ``kinds`` keeps the
    prompts of these kinds alone: harmful or benign ones, and in the embedded world math and choice.
    """

    name: str
    format: Literal["toy", "toy_requests", "star1", "star41k", "published", "jsonl"]
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    split: str = "train"
    hub_file: str | None = None
    has_traces: bool = False
    kinds: tuple[Kind, ...] | None = Field(None, min_length=1)

    def results(self) -> dict[str, Any]:
        """As of every spec; ``kinds``, which came later, is left out where it is null, so that older folders go on."""
        return {name: value for name, value in super().results().items() if name != "kinds" or value is not None}


class PromptSource(Spec):
    """Where an evaluation's rows come from: ``path`` (absolute, or below ``paths.data``), else ``hub_id``.

    ``format`` is that of ``path``; the hub's files tell theirs by their endings. ``hub_file`` is as for a data set. The
    hub's fields never conflict when a stage continues, since the prompts themselves are hashed among its inputs.
    """

    path: str | None = None
    hub_id: Annotated[str | None, Free()] = None
    revision: Annotated[str | None, Free()] = None
    split: str = "test"
    hub_file: Annotated[str | None, Free()] = None
    row_id: str | None = None
    subset: str | None = None
    expected_rows: PositiveInt | None = None


class QuestionsSpec(PromptSource):
    """Questions to ask under each jailbreak prompt, ``per_prompt`` of them a prompt (``dalign.prompts.questions``).

    ``text`` names the question's column; ``row_id``, ``subset`` and ``expected_rows`` are about the questions.
    """

    format: FileFormat
    text: str = "question"
    per_prompt: PositiveInt = 1


class BenchmarkSpec(PromptSource):
    """A benchmark: its file, its columns, and the judge roles that score it.

    ``format`` ``toy`` reads the embedded world's set ``name``. ``text`` names the prompt column, ``context`` one whose
    text, where there is any, stands above the prompt; ``row_id`` the source id (columns joined by ``+``; else the row
    number); ``group`` the keys that tie rows together, beside equal text: columns joined by ``+``, where ``#column`` is
    a row's position among those with its value, and ``group_alias`` makes values equal. ``subset`` splits the report's
    rows; ``where`` keeps rows whose column has one of the values; ``harmful_when`` marks the rows of a mixed set that
    are harmful, the others being benign. A column ``(file)`` holds the name, without its ending, of the file that a row
    stands in. ``category`` names a column of this project's categories. ``questions`` are asked under each prompt; with
    them ``expected_rows`` still counts the prompts. ``prefill`` begins the answer under ``protocol=prefilled``.
    """

    name: str
    format: Literal["toy", "mmlu"] | FileFormat
    kind: Kind
    roles: tuple[Role, ...] = Field(min_length=1)
    text: str = "prompt"
    context: str | None = None
    group: tuple[str, ...] = ()
    group_alias: dict[str, str] = Field(default_factory=dict)
    category: str | None = None
    reference: str | None = None
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    harmful_when: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    subjects: tuple[str, ...] = ()
    questions: QuestionsSpec | None = None
    instruction: str = ""
    prefill: Annotated[str, Free()] = ""
