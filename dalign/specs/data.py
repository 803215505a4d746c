"""Where prompts and traces come from: training sets and benchmarks, each from a hub id, a file, or the world."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from dalign.records import Kind
from dalign.specs.base import Spec

Role = Literal["harm", "answers", "refusal"]
FileFormat = Literal["csv", "tsv", "json", "jsonl", "parquet", "mmlu"]


class DatasetSpec(Spec):
    """Training prompts or ready-made traces.

    ``format``: ``toy`` (the embedded world), ``star1`` (STAR-1's JSON), ``star41k`` (prompts with categories),
    ``published`` (the authors' filtered traces), ``jsonl`` (question, categories, and for traces reasoning and answer).
    ``path`` is a local file, ``hub_id`` a data set of the hub; ``path`` wins. ``hub_file`` is a pattern for the files
    to take there; without one they are those named after ``split``. ``has_traces`` says that the rows carry reasoning
    and answers, as ``teacher=ready_made`` needs.
    """

    name: str
    format: Literal["toy", "star1", "star41k", "published", "jsonl"]
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    split: str = "train"
    hub_file: str | None = None
    has_traces: bool = False


class BenchmarkSpec(Spec):
    """A benchmark: its file, its columns, and the judge roles that score it.

    ``format`` ``toy`` reads the embedded world's set ``name``. Else ``path`` (absolute, or below ``paths.data``) or
    ``hub_id`` (``hub_file`` as for a data set). ``text`` names the prompt column; ``row_id`` the source id (else the
    row number); ``group`` the keys that tie rows together, beside equal text: columns joined by ``+``, where
    ``#column`` is a row's position among those with its value, and ``group_alias`` makes values equal. ``subset``
    splits the report's rows; ``where`` keeps rows whose column has one of the values; ``harmful_when`` marks the rows
    of a mixed set that are harmful, the others being benign. ``category`` names a column of this project's categories.
    """

    name: str
    format: Literal["toy"] | FileFormat
    kind: Kind
    roles: tuple[Role, ...] = Field(min_length=1)
    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None
    split: str = "test"
    hub_file: str | None = None
    text: str = "prompt"
    row_id: str | None = None
    group: tuple[str, ...] = ()
    group_alias: dict[str, str] = Field(default_factory=dict)
    subset: str | None = None
    category: str | None = None
    reference: str | None = None
    where: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    harmful_when: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    subjects: tuple[str, ...] = ()
    instruction: str = ""
    expected_rows: PositiveInt | None = None
