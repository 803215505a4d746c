"""Evaluation folders as arrays: one ``Cell`` a policy and benchmark, checked against itself, nothing skipped unsaid.

A sample without a prompt, a verdict without a sample, a duplicate, a missing index or a tensor of another shape is an
``ArtifactError``; an unfinished folder is left out with a note. Free of torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from dalign.errors import ArtifactError
from dalign.files import read_json, read_records
from dalign.judge.text_scores import text_scores
from dalign.judges_file import judge_versions
from dalign.layout import benchmark_and_protocol
from dalign.records import FinishReason, Prompt, Sample
from dalign.report.control import Spelt, spelt_of
from dalign.report.judged import Judged, judged_of
from dalign.report.metrics import Bools, Floats
from dalign.report.reranked import rerank_scores, same_means, until
from dalign.report.tensors import Oof, add_controls, add_probe, load_scores
from dalign.select import Until
from dalign.sizes import Sizes, read_sizes
from dalign.specs.protocol import IMPORTED, PREFILLED
from dalign.store import StageFolder

ORDER = ("teacher", "base", "distill", "grpo")


class Response(NamedTuple):
    """What one sample says, and how it ended."""

    reasoning: str
    answer: str
    finish_reason: FinishReason
    closed: bool


@dataclass(frozen=True)
class Cell:
    """One policy on one benchmark. ``truncated``, ``empty`` (no answer, though not cut off) and ``finished`` are
    ``(P, N)`` and exclude each other; ``lengths_PN`` counts response tokens, ``prompt_lengths_P`` those of the prompt
    as it was asked, and ``sizes`` are the model's, None where they were not recorded. ``scores`` maps a name to
    ``(P, N, L + 1)`` or ``(P, N)``, NaN where a pair has none. ``attributed`` names those that compare with a base, as
    ``base`` says in words (none for policies without an adapter); the others are made of texts, or by judges that
    rerank. ``until`` says which of them stops resampling, ``same_means`` holds (judge, score) where a judge that also
    reports reranks. ``judge_versions`` maps a judge's name to its version. ``protocol`` says how the samples came
    about; ``sample_ids_PN`` are theirs, ``responses`` their texts, P rows of N, and ``folder`` is the cell's own.
    ``spelt`` says, by reader, which of the texts spell one of its control tokens."""

    folder: Path
    policy: str
    benchmark: str
    protocol: str
    config: dict[str, Any]
    versions: dict[str, Any]
    prompts: tuple[Prompt, ...]
    sample_ids_PN: NDArray[np.str_]
    finished_PN: Bools
    truncated_PN: Bools
    empty_PN: Bools
    lengths_PN: NDArray[np.int64]
    prompt_lengths_P: NDArray[np.int64]
    sizes: Sizes | None
    scores: dict[str, Floats]
    judged: tuple[Judged, ...]
    base: str
    judge_versions: dict[str, str]
    responses: tuple[tuple[Response, ...], ...]
    spelt: dict[str, Spelt] = field(default_factory=dict)
    attributed: frozenset[str] = frozenset()
    until: Until | None = None
    same_means: frozenset[tuple[str, str]] = frozenset()

    def reranked_by(self, judge: str) -> set[str]:
        """The scores that come from the very means by which ``judge`` reports: choosing by them is choosing on its
        labels."""
        return {score for name, score in self.same_means if name == judge}

    @property
    def told_by_judges(self) -> set[str]:
        """The scores that come from the means of any judge that reports here: no choice may be learnt from them."""
        return {score for one in self.judged for score in self.reranked_by(one.judge)}

    @property
    def n_layers(self) -> int | None:
        """L, the number of blocks of the model; None without layered scores."""
        return next((s.shape[2] - 1 for s in self.scores.values() if s.ndim == 3), None)


@dataclass(frozen=True)
class LoadedRun:
    """The finished cells of a run, in reading order, and notes on what was left out. ``traces`` counts, by category,
    what became of the teacher's traces (``kept``, or the reason why not); empty where the run judged none.
    ``prefilled`` cells ask the prompts of others in another way, and stand beside those."""

    folder: Path
    cells: tuple[Cell, ...]
    notes: tuple[str, ...]
    traces: dict[str, dict[str, int]]
    prefilled: tuple[Cell, ...] = ()


def load_run(run_folder: Path) -> LoadedRun:
    """Everything under ``evaluate/``. Raises ``ArtifactError`` where nothing is finished or files do not agree."""
    cells: list[Cell] = []
    others: list[Cell] = []
    notes: list[str] = []
    for policy in _policies(run_folder / "evaluate"):
        oof = Oof.read(run_folder / "probe" / policy.name)
        for folder in sorted(p for p in policy.iterdir() if p.is_dir()):
            if not StageFolder(folder, config={}, results={}, inputs={}).finished:
                notes.append(f"{policy.name} on {folder.name} is unfinished and left out: rerun the evaluation.")
                continue
            cell = load_cell(folder, policy.name)
            if cell.protocol == PREFILLED:
                others.append(cell)
                continue
            ids, n = [p.id for p in cell.prompts], cell.lengths_PN.shape[1]
            note = add_probe(cell.scores, oof, cell.benchmark, ids, n)
            notes += [note] if note else []
            controls = run_folder / "control" / policy.name / folder.name
            notes += add_controls(cell.scores, controls, folder / "samples.parquet", ids, n)
            cells.append(cell)
    if not cells:
        raise ArtifactError(
            f"{run_folder / 'evaluate'}: no finished evaluation; run evaluate.py run={run_folder.name} first"
        )
    return LoadedRun(run_folder, tuple(cells), tuple(notes), _traces(run_folder / "traces"), tuple(others))


def _traces(folder: Path) -> dict[str, dict[str, int]]:
    if not StageFolder(folder, config={}, results={}, inputs={}).finished:
        return {}
    summary = read_json(folder / "summary.json")
    return dict(summary["categories"]) if summary["judge"] else {}


def _policies(folder: Path) -> list[Path]:
    found = [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []
    return sorted(found, key=lambda p: (ORDER.index(p.name) if p.name in ORDER else len(ORDER), p.name))


def load_cell(folder: Path, policy: str) -> Cell:
    """The cell of one finished folder ``evaluate/<policy>/<benchmark>``."""
    prompts = tuple(read_records(folder / "prompts.parquet", Prompt))
    row_of = {p.id: i for i, p in enumerate(prompts)}
    if not prompts or len(row_of) != len(prompts):
        raise ArtifactError(f"{folder / 'prompts.parquet'}: {len(prompts)} prompts, {len(row_of)} of them different")
    grid = _grid(folder / "samples.parquet", read_records(folder / "samples.parquet", Sample), row_of, policy)
    n = len(grid[0])
    flags = np.array([[(s.finished, s.finish_reason == "length") for s in row] for row in grid], dtype=bool)
    finished, truncated = flags[..., 0], flags[..., 1]
    scores, base = load_scores(folder / "scores.safetensors", list(row_of), n)
    ids = np.array([[s.id for s in row] for row in grid])
    config = _config(folder / "config.yaml")
    benchmark, protocol = benchmark_and_protocol(folder.name)
    toy = config.get("benchmark", {}).get(benchmark, {}).get("format") == "toy"
    others = text_scores([[s.answer for s in row] for row in grid], toy=toy) | rerank_scores(folder, ids)
    return Cell(
        folder=folder,
        policy=policy,
        benchmark=benchmark,
        protocol=IMPORTED if (config.get("protocol") or {}).get("name") == IMPORTED else protocol,
        config=config,
        versions=read_json(folder / "versions.json"),
        prompts=prompts,
        sample_ids_PN=ids,
        finished_PN=finished,
        truncated_PN=truncated,
        empty_PN=~finished & ~truncated,
        lengths_PN=np.array([[len(s.response_ids) for s in row] for row in grid], dtype=np.int64),
        prompt_lengths_P=np.array([len(row[0].prompt_ids) for row in grid], dtype=np.int64),
        sizes=read_sizes(folder),
        scores={**scores, **others},
        judged=judged_of(folder / "verdicts.parquet", ids),
        base=base,
        judge_versions=judge_versions(folder),
        attributed=frozenset(scores),
        until=until(config["judges"], others),
        same_means=same_means(folder, others, toy=toy),
        responses=tuple(tuple(Response(s.reasoning, s.answer, s.finish_reason, s.closed) for s in row) for row in grid),
        spelt=spelt_of(folder, [p.text for p in prompts], grid),
    )


def _grid(path: Path, samples: Sequence[Sample], row_of: dict[str, int], policy: str) -> list[list[Sample]]:
    """The samples as P rows of N, sample i of a prompt in column i."""
    if doubles := [key for key, count in Counter((s.prompt_id, s.index) for s in samples).items() if count > 1]:
        raise ArtifactError(
            f"{path}: {len(doubles)} samples stand there twice, the first is (prompt, index) {doubles[0]}"
        )
    rows: list[dict[int, Sample]] = [{} for _ in row_of]
    for sample in samples:
        if sample.prompt_id not in row_of:
            raise ArtifactError(f"{path}: sample {sample.id} has no prompt ({sample.prompt_id}) in prompts.parquet")
        if sample.policy != policy:
            raise ArtifactError(f"{path}: sample {sample.id} is of policy {sample.policy!r}, the folder of {policy!r}")
        rows[row_of[sample.prompt_id]][sample.index] = sample
    n = max(len(row) for row in rows)
    for prompt_id, row in zip(row_of, rows, strict=True):
        if n == 0 or sorted(row) != list(range(n)):
            raise ArtifactError(f"{path}: prompt {prompt_id} has samples {sorted(row)}, others {n}; rerun evaluate.py")
    return [[row[i] for i in range(n)] for row in rows]


def _config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArtifactError(f"{path}: not readable as YAML ({error})") from error
    missing = [key for key in ("run", "seed", "model", "teacher", "sampler", "judges") if key not in (config or {})]
    if missing:
        raise ArtifactError(f"{path}: lacks {', '.join(missing)}; it is not the configuration of an evaluation")
    return dict(config)
