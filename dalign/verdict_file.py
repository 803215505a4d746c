"""Verdicts of a cell in one Parquet file, with ``judges.json`` beside it: who has judged what, and what is lacking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dalign.files import read_records, write_records
from dalign.judges_file import check_judges, record_judge
from dalign.records import Part, Prompt, Sample, Verdict
from dalign.specs.judge import JudgeSpec
from dalign.store import ChunkLog, run_chunks

if TYPE_CHECKING:
    from dalign.judge import Judge

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VerdictFile:
    """The file at ``path``. A verdict is known by its judge's name, the part and the sample."""

    path: Path

    def read(self) -> list[Verdict]:
        """The verdicts there are."""
        return read_records(self.path, Verdict) if self.path.exists() else []

    def check(self, judges: Iterable[JudgeSpec]) -> None:
        """Raises ``ArtifactError`` if a judge has given verdicts here under another configuration."""
        check_judges(self.path.parent, judges)

    def lacking(
        self, judges: Mapping[str, JudgeSpec], samples: Sequence[Sample]
    ) -> dict[tuple[str, Part], list[Sample]]:
        """For each judge (its key) and part, the samples it has not judged."""
        seen = {(v.judge, v.part, v.sample_id) for v in self.read()}
        found = {
            (key, part): [s for s in samples if (judge.name, part, s.id) not in seen]
            for key, judge in judges.items()
            for part in judge.parts
        }
        return {place: rows for place, rows in found.items() if rows}

    def add(
        self,
        spec: JudgeSpec,
        judge: Judge,
        todo: Mapping[Part, Sequence[Sample]],
        prompts: Iterable[Prompt],
        log: ChunkLog[Verdict],
        progress: Progress | None = None,
    ) -> None:
        """Has the samples of ``todo`` judged, committed to ``log`` chunk by chunk, and puts them into the file."""
        from dalign.judge import JudgeItem

        by_id = {p.id: p for p in prompts}
        record_judge(self.path.parent, spec, judge)
        work: dict[str, Callable[[], Sequence[Verdict]]] = {}
        for part, rows in todo.items():
            for start in range(0, len(rows), spec.chunk):
                items = [JudgeItem.of(s, by_id[s.prompt_id]) for s in rows[start : start + spec.chunk]]
                work[f"{part}/{start:06d}"] = partial(judge.judge, items, part)
        new = run_chunks(log, work, progress)
        write_records(self.path, [*self.read(), *new])
        log.remove()
