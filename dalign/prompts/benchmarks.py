"""Loads a benchmark: rows of a file, a hub data set or the embedded world become prompts with id, group and subset.

Counts are checked before ``limit`` thins them, and a benchmark whose columns do not say what its spec says is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dalign.categories import categories_of
from dalign.errors import DataError, did_you_mean
from dalign.prompts.grouping import group_names, key_values, normalised
from dalign.prompts.mmlu import ANSWER, LETTERS, QUESTION, ROW, SUBJECT, mmlu_rows
from dalign.prompts.questions import ask, load_questions
from dalign.prompts.readers import Row, source_ids
from dalign.prompts.sources import check_count, source_rows
from dalign.prompts.spread import spread
from dalign.records import Kind, Prompt
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import PathsSpec

_MARK = "####"
_GOLD = re.compile(r"[-+]?\d{1,100}(?:\.\d{1,100})?", re.ASCII)


def load_benchmark(
    spec: BenchmarkSpec, *, paths: PathsSpec, world_seed: int, limit: int | None = None
) -> tuple[Prompt, ...]:
    """The prompts of ``spec``, thinned to ``limit`` evenly and with equal shares of each kind and subset.

    Raises ``DataError`` for a missing file, an unreadable row, a missing column, a reference that is no answer, and a
    count that is not ``expected_rows``.
    """
    key = f"benchmark.{spec.name}"
    prompts = _toy(spec, world_seed) if spec.format == "toy" else _from_rows(spec, _rows(spec, paths))
    check_count(len(prompts), spec.expected_rows, key)
    if spec.questions is not None:
        questions = load_questions(spec.questions, f"{key}.questions", paths)
        prompts = ask(prompts, questions, spec.questions.per_prompt)
    return spread(prompts, limit, [(p.kind, p.subset) for p in prompts])


def _toy(spec: BenchmarkSpec, world_seed: int) -> tuple[Prompt, ...]:
    from dalign.toy.prompts import prompt_sets
    from dalign.toy.world import World

    if spec.name not in prompt_sets():
        hint = did_you_mean(spec.name, prompt_sets())
        raise DataError(f"benchmark.{spec.name}: the embedded world has no such set; {hint}")
    return World.of(world_seed).prompts(spec.name)


def _rows(spec: BenchmarkSpec, paths: PathsSpec) -> list[Row]:
    """The rows that ``where`` keeps."""
    key = f"benchmark.{spec.name}"
    rows = mmlu_rows(spec, key, paths) if spec.format == "mmlu" else source_rows(spec, key, paths, spec.format)
    kept = [row for row in rows if _matches(row, spec.where)]
    if not kept:
        raise DataError(f"{key}.where={spec.where}: keeps none of {len(rows)} rows{_seen(rows, spec.where)}")
    return kept


def _matches(row: Row, wanted: Mapping[str, Sequence[str]]) -> bool:
    return all(row.label(column).strip() in values for column, values in wanted.items())


def _seen(rows: Sequence[Row], columns: Mapping[str, object]) -> str:
    """The values that stand in some columns, at most eight each, for a message."""
    found = {c: sorted({row.label(c).strip()[:40] for row in rows}) for c in columns}
    return "".join(f"; {c} reads {', '.join(map(repr, values[:8]))}" for c, values in found.items())


def _from_rows(spec: BenchmarkSpec, rows: Sequence[Row]) -> tuple[Prompt, ...]:
    mmlu = spec.format == "mmlu"
    row_id, text, subset = (ROW, QUESTION, SUBJECT) if mmlu else (spec.row_id, spec.text, spec.subset)
    texts = [_in_context(row, spec.context, row.text(text)) for row in rows]
    ids = source_ids(rows, row_id)
    groups = _groups(spec, rows, ids, texts)
    kinds = _kinds(spec, rows)
    tail = f"\n\n{spec.instruction}" if spec.instruction else ""
    return tuple(
        Prompt(
            dataset=spec.name,
            row=ids[i],
            text=texts[i] + tail,
            kind=kinds[i],
            group=groups[i],
            categories=categories_of(row.cell(spec.category), row.where) if spec.category is not None else (),
            reference=_reference(spec, row),
            subset=row.label(subset).strip() if subset is not None else "",
        )
        for i, row in enumerate(rows)
    )


def _in_context(row: Row, column: str | None, text: str) -> str:
    """The text below its context, set apart as HarmBench does (arXiv 2402.04249, its code's direct request)."""
    context = row.label(column).strip() if column is not None else ""
    return f"{context}\n\n---\n\n{text}" if context else text


def _groups(spec: BenchmarkSpec, rows: Sequence[Row], ids: Sequence[str], texts: Sequence[str]) -> list[str]:
    keys = [key_values(rows, key, spec.group_alias) for key in spec.group]
    return group_names(ids, [*keys, [normalised(t) for t in texts]])


def _kinds(spec: BenchmarkSpec, rows: Sequence[Row]) -> list[Kind]:
    """Each row's kind. Raises ``DataError`` if ``harmful_when`` fits no row, a misspelt label among other things."""
    if not spec.harmful_when:
        return [spec.kind] * len(rows)
    kinds: list[Kind] = ["harmful" if _matches(row, spec.harmful_when) else "benign" for row in rows]
    if "harmful" not in kinds:
        seen = _seen(rows, spec.harmful_when)
        raise DataError(f"benchmark.{spec.name}.harmful_when={spec.harmful_when}: fits no row{seen}")
    return kinds


def _reference(spec: BenchmarkSpec, row: Row) -> str | None:
    if spec.format == "mmlu":
        return row.text(ANSWER)
    if spec.reference is None:
        if spec.kind in ("math", "choice"):
            raise DataError(f"benchmark.{spec.name}.reference: a {spec.kind} benchmark names the column of its answers")
        return None
    given = row.label(spec.reference)
    if spec.kind == "math":
        return gold_number(given, row.where)
    return gold_letter(given, row.where) if spec.kind == "choice" else given


def gold_number(text: str, where: str) -> str:
    """The gold answer of a math row: what follows the last ``####``, else all of it, without commas and ``$``.

    Raises ``DataError`` if that is no number.
    """
    gold = text.rsplit(_MARK, 1)[-1].strip().replace(",", "").replace("$", "")
    if not _GOLD.fullmatch(gold):
        raise DataError(f"{where}: the gold answer {gold[:40]!r} is no number")
    return gold


def gold_letter(text: str, where: str) -> str:
    """The gold letter of a choice row, given as a letter or as a number from 0. Raises ``DataError`` otherwise."""
    given = text.strip().upper()
    if given.isdecimal() and int(given) < len(LETTERS):
        return LETTERS[int(given)]
    if given not in LETTERS:
        raise DataError(f"{where}: the gold answer {text[:40]!r} is none of {', '.join(LETTERS)}")
    return given
