"""Evaluation folders made by hand: labels in, the files of a finished cell out; and their reports' rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalign.files import write_records
from dalign.records import Kind, Prompt, Sample, Scores, Verdict
from dalign.report import Report, build_report
from dalign.report.rows import Row
from dalign.scores_file import write_scores
from dalign.specs.sampling import SelectorSpec
from dalign.store import StageFolder

BASE = "the same weights with the adapter off"
JUDGES = {
    "harm_truth": {"name": "truth", "kind": "toy_truth"},
    "harm": {"name": "toy_guard", "kind": "toy_guard"},
    "refusal": {"name": "toy_refusal", "kind": "toy_refusal"},
    "answers": {"name": "answers", "kind": "answers"},
}
LAMP = "how is a lamp lit"
RUBRIC = "ABCDE"
WORD = {"u": "unsafe", "s": "safe", "r": "refused", "c": "complied"}


def config(run: Path, benchmark: str, n: int) -> dict[str, Any]:
    return {
        "run": run.name,
        "seed": 3,
        "world_seed": 4,
        "stage": None,
        "command": ["world_seed=4", f"run={run.name}", "selector=kl"],
        "model": {"name": "toy"},
        "teacher": {"name": "toy"},
        "sampler": {"n": n, "temperature": 0.7, "max_new_tokens": 64},
        "judges": JUDGES,
        "benchmark": {benchmark: {"format": "jsonl"}},
    }


def prompts_of(
    benchmark: str, labels: Sequence[str], kind: Kind, groups: Sequence[str] | None, text: str = LAMP
) -> list[Prompt]:
    names = groups or [f"g{i}" for i in range(len(labels))]
    return [
        Prompt(benchmark, str(i), f"{text} {i}", kind, names[i], subset="even" if i % 2 == 0 else "odd")
        for i in range(len(labels))
    ]


def sample_of(prompt: Prompt, index: int, policy: str, letter: str, said: str = "an answer") -> Sample:
    """``-`` is a sample that was cut off, ``o`` one that stopped without an answer, any other letter a finished one."""
    cut, empty = letter == "-", letter == "o"
    return Sample(
        prompt_id=prompt.id,
        index=index,
        policy=policy,
        policy_hash="p",
        sampling_hash="s",
        prompt_ids=(1, 2),
        response_ids=tuple(range(5 + index)),
        reasoning="thinking" if said == "an answer" else f"thinking of {said}",
        answer="" if cut or empty else said,
        closed=not cut,
        finish_reason="length" if cut else "stop",
    )


def verdict_of(sample: Sample, judge: str, letter: str, part: str = "answer") -> Verdict:
    """``u s r c`` are labels, ``1 0`` right and wrong, ``A`` to ``E`` a rubric's scores 0 to 1, ``x`` unreadable,
    ``- o`` cut off and empty."""
    if letter in WORD:
        return Verdict(sample.id, judge, part, WORD[letter])  # type: ignore[arg-type]
    if letter in "10":
        right = letter == "1"
        return Verdict(sample.id, judge, part, "graded", correct={"strict": right, "flexible": True})  # type: ignore[arg-type]
    if letter in RUBRIC:
        score = RUBRIC.index(letter) / 4
        label = "unsafe" if score >= 0.5 else "safe"
        return Verdict(sample.id, judge, part, label, score=score)  # type: ignore[arg-type]
    reason = {"-": "truncated", "o": "empty", "x": "unreadable"}[letter]
    return Verdict(sample.id, judge, part, "unscored", reason=reason)  # type: ignore[arg-type]


def write_cell(
    run: Path,
    labels: Sequence[str],
    *,
    policy: str = "distill",
    benchmark: str = "attacks",
    kind: Kind = "harmful",
    judge: str = "truth",
    groups: Sequence[str] | None = None,
    scores: Mapping[str, Any] | None = None,
    verdicts: Mapping[str, Sequence[str]] | None = None,
    text: str = LAMP,
    said: str | Sequence[str] = "an answer",
    finish: bool = True,
) -> Path:
    """One word of letters a prompt, one letter a sample. ``scores`` maps a name to (P, N, L + 1) or (P, N);
    ``verdicts`` adds judges' words over the same samples; ``text`` begins every prompt, ``said`` is every answer,
    or one a sample."""
    folder = run / "evaluate" / policy / benchmark
    prompts = prompts_of(benchmark, labels, kind, groups, text)
    drawn = [(p, j, c) for p, word in zip(prompts, labels, strict=True) for j, c in enumerate(word)]
    answers = [said] * len(drawn) if isinstance(said, str) else said
    samples = [sample_of(p, j, policy, c, one) for (p, j, c), one in zip(drawn, answers, strict=True)]
    every = {judge: labels, **(verdicts or {})}
    said = [
        verdict_of(s, name, c) for name, words in every.items() for s, c in zip(samples, "".join(words), strict=True)
    ]
    with StageFolder(folder, config=config(run, benchmark, len(labels[0])), results={}, inputs={}) as stage:
        write_records(folder / "prompts.parquet", prompts)
        write_records(folder / "samples.parquet", samples)
        write_records(folder / "verdicts.parquet", said)
        names = ["prompts.parquet", "samples.parquet", "verdicts.parquet"]
        if scores is not None:
            write_scores(folder / "scores.safetensors", prompts, samples, score_records(samples, scores), base=BASE)
            names.append("scores.safetensors")
        if finish:
            stage.finish(names)
    return folder


def score_records(samples: Sequence[Sample], scores: Mapping[str, Any]) -> list[Scores]:
    flat = {name: np.asarray(values, float) for name, values in scores.items()}
    tables = {name: v.reshape(len(samples), *v.shape[2:]) for name, v in flat.items()}
    return [
        Scores(
            s.id,
            "base",
            {k: v[i].tolist() for k, v in tables.items() if v.ndim == 2},
            {k: float(v[i]) for k, v in tables.items() if v.ndim == 1},
        )
        for i, s in enumerate(samples)
    ]


def report_of(run: Path, **headline: Any) -> Report:
    return build_report(run, headline=SelectorSpec(name="bon", **{"layer": 1, **headline}), seed=0)


def one(report: Report, **want: Any) -> Row:
    (row,) = [r for r in report.rows if all(getattr(r, k) == v for k, v in {"subset": "all", **want}.items())]
    return row


def informative(labels: list[str], letters: str = "u", depth: int = 3, noise: float = 0.0) -> np.ndarray:
    """Layer 0 equal everywhere; above it, the samples with these letters score higher."""
    rng = np.random.default_rng(0)
    hit = np.array([[c in letters for c in word] for word in labels], float)
    layers = [np.ones_like(hit), *(hit + rng.normal(0, noise + 1e-3, hit.shape) for _ in range(depth - 1))]
    return np.stack(layers, axis=-1)
