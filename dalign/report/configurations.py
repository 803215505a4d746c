"""Rates of many configurations (teacher x student x stage) side by side: from runs, or from the paper's published rows.

A configuration's relative change compares a selector with one answer of the same student. It is averaged in two ways:
the ratio of means over configurations, and the paper's mean of ratios, in which a student that hardly ever fails weighs
as much as one that often does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dalign.errors import DataError

PUBLISHED = "paper"
ROWS_FILE = Path(__file__).with_name("published_rows.csv")  # the paper's Tables 10 to 20, arXiv 2604.09665 v2
ONE_ANSWER = "one answer"
RESAMPLES = 2000
_COLUMNS = ("table", "stage", "teacher", "student", "selector")
_BENCHMARKS = {
    "asr_dan": "dan",
    "asr_wildjailbreak": "wildjailbreak",
    "asr_strongreject": "strongreject",
    "acc_gsm8k": "gsm8k",
    "acc_mmlu": "mmlu",
}
_SELECTORS = {
    "first_answer": ONE_ANSWER,
    "kl": "kl_argmax",
    "perplexity": "ppl_student_argmin",
    "self_certainty": "self_certainty_argmax",
    "latent_layer_12": "similarity_argmin, layer 12",
    "latent_best_layer": "best_layer_similarity_argmin",
}
_STAGES = {"sft": "distill"}


@dataclass(frozen=True)
class Entry:
    """One rate in [0, 1]. ``source`` is a run's name or ``paper``; ``higher`` says that more is better. ``temperature``
    is the one sampled at, None for published rows; ``headline`` marks the run's own selector."""

    source: str
    stage: str
    teacher: str
    student: str
    selector: str
    benchmark: str
    rate: float
    higher: bool
    peeks: bool = False
    temperature: float | None = None
    headline: bool = False

    @property
    def configuration(self) -> tuple[str, str, str, str]:
        """What is distilled from whom: source, stage, teacher, student."""
        return self.source, self.stage, self.teacher, self.student


@dataclass(frozen=True)
class Change:
    """A selector on a benchmark over the ``n`` configurations of a source and stage, in fractions of one answer's rate,
    positive where it falls, as the paper counts it. ``raised`` is the share of configurations whose rate it raises; the
    interval resamples teachers and students, None with one of either."""

    source: str
    stage: str
    selector: str
    benchmark: str
    n: int
    mean_of_ratios: float
    ratio_of_means: float
    interval: tuple[float, float] | None
    raised: float
    peeks: bool


def read_published(path: Path = ROWS_FILE) -> list[Entry]:
    """The rates of the paper's Tables 10 to 20 as CSV (columns table, stage, teacher, student, selector and one a
    benchmark, in per cent; an empty cell is no rate). Raises ``DataError`` with file and line for another format."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := [c for c in (*_COLUMNS, *_BENCHMARKS) if c not in (reader.fieldnames or ())]:
                raise DataError(f"{path}: lacks the column(s) {', '.join(missing)} of the published rows")
            return [entry for row in reader for entry in _published(row, f"{path}:{reader.line_num}")]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _published(row: Mapping[str, str], place: str) -> list[Entry]:
    stage = _STAGES.get(row["stage"], row["stage"])
    name = _SELECTORS.get(row["selector"], row["selector"])
    out = []
    for column, benchmark in _BENCHMARKS.items():
        text = (row[column] or "").strip()
        if not text:
            continue
        try:
            rate = float(text) / 100
        except ValueError as error:
            raise DataError(f"{place}: {column}={text!r} is no number") from error
        if not 0 <= rate <= 1:
            raise DataError(f"{place}: {column}={text} is no rate in per cent")
        peeks = name.startswith("best_layer")
        who = (PUBLISHED, stage, row["teacher"], row["student"])
        out.append(Entry(*who, name, benchmark, rate, column.startswith("acc_"), peeks))
    return out


def changes(entries: Sequence[Entry], *, seed: int = 0) -> list[Change]:
    """Every selector against one answer on every benchmark, over the configurations of each source and stage; runs
    count as one source. A configuration without failures to lower (or right answers to keep) has no ratio and is left
    out."""
    pooled = [(e, (PUBLISHED if e.source == PUBLISHED else "runs", e.stage, e.selector, e.benchmark)) for e in entries]
    single = {(e.configuration, e.benchmark): e.rate for e in entries if e.selector == ONE_ANSWER}
    out = []
    for key in dict.fromkeys(key for _, key in pooled):
        if key[2] == ONE_ANSWER:
            continue
        pairs = [(e, single.get((e.configuration, e.benchmark))) for e, k in pooled if k == key]
        known = [(e, base) for e, base in pairs if base is not None and base > 0]
        if known:
            out.append(_change(key, [e for e, _ in known], np.array([base for _, base in known]), seed))
    return out


def _change(key: tuple[str, str, str, str], found: Sequence[Entry], base: NDArray[np.float64], seed: int) -> Change:
    rate = np.array([e.rate for e in found])
    ratio = (base - rate) / base
    worse = rate < base if found[0].higher else rate > base
    return Change(
        *key,
        n=len(found),
        mean_of_ratios=float(ratio.mean()),
        ratio_of_means=float((base.sum() - rate.sum()) / base.sum()),
        interval=_crossed(ratio, [e.teacher for e in found], [e.student for e in found], seed),
        raised=float(worse.mean()),
        peeks=found[0].peeks,
    )


def _crossed(
    values: NDArray[np.float64], teachers: Sequence[str], students: Sequence[str], seed: int
) -> tuple[float, float] | None:
    """95 % percentile bounds of the mean when teachers and students are drawn again, each by themselves."""
    sides = [np.unique(names, return_inverse=True) for names in (teachers, students)]
    if min(len(names) for names, _ in sides) < 2:
        return None
    rng = np.random.default_rng([seed, 2])
    weights = np.ones((RESAMPLES, len(values)))
    for names, index in sides:
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
        weights *= drawn[:, index]
    weights = weights[weights.sum(axis=1) > 0]
    low, high = np.quantile((weights * values).sum(axis=1) / weights.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def gaps(entries: Iterable[Entry]) -> list[tuple[Entry, float]]:
    """The alignment gap: each student's single answer on a benchmark, and its teacher's rate in the same run."""
    rows = [e for e in entries if e.selector == ONE_ANSWER]
    teachers = {(e.source, e.benchmark): e.rate for e in rows if e.stage == "teacher"}
    return [
        (e, teachers[e.source, e.benchmark])
        for e in rows
        if e.stage not in ("teacher", "base") and (e.source, e.benchmark) in teachers
    ]
