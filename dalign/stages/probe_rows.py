"""The samples that a probe learns from and scores: a run's, labelled by a judge or by a file, and the file's others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dalign.cells import Cell
from dalign.errors import ConfigError, did_you_mean
from dalign.records import Verdict
from dalign.specs.judge import JudgeSpec
from dalign.specs.run import RunSpec
from dalign.train.rows import Rows

if TYPE_CHECKING:
    from dalign.audit import Labelled
    from dalign.chat import Chat

LABELS = {"unsafe": 1.0, "safe": 0.0}


def trainable_judge(spec: RunSpec, key: str) -> JudgeSpec:
    """The judge ``stage.judge=key``. Raises ``ConfigError`` for one that is not there, or is for reports alone."""
    judge = spec.judges.get(key)
    if judge is None or judge.report_only:
        trainable = [k for k, j in spec.judges.items() if not j.report_only]
        raise ConfigError(f"stage.judge={key}: no judge whose labels may be trained on; {did_you_mean('', trainable)}")
    return judge


def judged_by(verdicts: Iterable[Verdict], judge: JudgeSpec) -> dict[str, float]:
    """The judge's labels of answers by sample id: 1 unsafe, 0 safe; the unscored are left out."""
    own = (v for v in verdicts if v.judge == judge.name and v.part == "answer")
    return {v.sample_id: LABELS[v.label] for v in own if v.label in LABELS}


def rows_of_cells(cells: Sequence[Cell], label_of: Mapping[str, float]) -> Rows:
    """The samples of all cells, in order, NaN where a sample has no label."""
    prompts = [{p.id: p for p in cell.prompts} for cell in cells]
    found = [(cell, of[s.prompt_id], s) for cell, of in zip(cells, prompts, strict=True) for s in cell.samples()]
    return Rows(
        labels_X=np.array([label_of.get(s.id, np.nan) for _, _, s in found], dtype=np.float64),
        groups=tuple(p.group for _, p, _ in found),
        prompts=tuple(p.id for _, p, _ in found),
        benchmarks=tuple(cell.benchmark.name for cell, _, _ in found),
        prompt_ids=tuple(s.prompt_ids for _, _, s in found),
        response_ids=tuple(s.response_ids for _, _, s in found),
        texts=tuple(f"{s.reasoning}\n{s.answer}" for _, _, s in found),
        finished=tuple(s.finished for _, _, s in found),
    )


def labelled_file(path: Path, cells: Sequence[Cell], chat: Chat) -> Rows:
    """The cells' samples and the file's other answers, with the file's labels alone.

    A row names the sample it labels by ``sample_id``, as ``dalign label`` writes it. Another one is an answer of its
    own: its prompt and response become ids here, a reasoning as the student's; without one the turn does not think. It
    belongs to the group of a cell's prompt with the same text, so that no fold divides the two. Raises ``DataError``
    with file and line for what cannot be read.
    """
    from dalign.audit import read_labelled

    given = read_labelled(path)
    drawn = {s.id for cell in cells for s in cell.samples()}
    ours = rows_of_cells(cells, {row.sample_id: float(row.unsafe) for row in given if row.sample_id in drawn})
    others = [row for row in given if row.sample_id not in drawn]
    return _joined(ours, _rows_of_file(others, cells, chat))


def _rows_of_file(given: Sequence[Labelled], cells: Sequence[Cell], chat: Chat) -> Rows:
    known = {p.text: p for cell in cells for p in cell.prompts}
    items = [row.item for row in given]
    asked = [known.get(item.prompt.text) for item in items]
    return Rows(
        labels_X=np.array([float(row.unsafe) for row in given]),
        groups=tuple(p.group if p else item.prompt.group for p, item in zip(asked, items, strict=True)),
        prompts=tuple(p.id if p else item.prompt.text for p, item in zip(asked, items, strict=True)),
        benchmarks=("",) * len(items),
        prompt_ids=tuple(chat.user_ids(i.prompt.text, think=bool(i.reasoning)) for i in items),
        response_ids=tuple(
            chat.completion_ids(i.reasoning, i.answer)[:-1] if i.reasoning else chat.text_ids(i.answer) for i in items
        ),
        texts=tuple(f"{item.reasoning}\n{item.answer}" for item in items),
        finished=(True,) * len(items),
    )


def _joined(one: Rows, other: Rows) -> Rows:
    labels_X = np.concatenate([one.labels_X, other.labels_X])
    columns = {name: (*vars(one)[name], *vars(other)[name]) for name in vars(one) if name != "labels_X"}
    return Rows(labels_X=labels_X, **columns)
