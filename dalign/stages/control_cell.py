"""One control on one benchmark of a finished evaluation: its folder, and the scores that it leaves there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dalign.drawing import score_samples
from dalign.errors import ArtifactError
from dalign.files import read_json, read_records
from dalign.judges_file import check_judges
from dalign.layout import evaluated_cell, file_hash, stage_folder
from dalign.models import LoadedModel
from dalign.records import Prompt, Sample, Scores, Verdict, digest
from dalign.scores_file import write_scores
from dalign.specs.control import DEPENDS_ON, Control
from dalign.specs.judge import JudgeSpec
from dalign.specs.run import RunSpec
from dalign.stages.control_passes import Models, Pass, passes_of
from dalign.stages.control_texts import split_closing
from dalign.stages.probe_rows import judged_by
from dalign.store import ChunkLog, StageFolder, differences, progress_bar, run_chunks

CHUNK = 64  # samples between two commits
SCORES = "scores.safetensors"


@dataclass(frozen=True)
class Source:
    """A finished cell of the evaluation: its prompts, and its samples prompt after prompt."""

    folder: Path
    prompts: tuple[Prompt, ...]
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, spec: RunSpec, policy: str, benchmark: str) -> Source:
        """The cell of a policy and benchmark. Raises ``ArtifactError`` where there is none, or where its states were
        read elsewhere than ``spec`` says, so that nothing would compare."""
        remedy = f"run evaluate.py run={spec.run} policies=[{policy}] benchmark=[{benchmark}] first"
        folder = evaluated_cell(spec, policy, benchmark, remedy=remedy)
        recorded = read_json(folder / "inputs.json")["results"].get("attribution", {})
        places = {key: recorded.get(key) for key in ("layers", "position")}
        if changed := differences(places, {key: spec.attribution.results()[key] for key in places}):
            told = "its similarities were read elsewhere than attribution= says; give what it was evaluated with"
            raise ArtifactError(f"{folder}: {told}:\n{changed}")
        prompts = tuple(read_records(folder / "prompts.parquet", Prompt))
        return cls(folder, prompts, tuple(read_records(folder / "samples.parquet", Sample)))

    @property
    def benchmark(self) -> str:
        return self.folder.name

    def unsafe(self, judge: JudgeSpec) -> dict[str, bool]:
        """What the judge found of answers, by sample id; empty where it was not asked. Raises ``ArtifactError`` if it
        was asked under another configuration."""
        check_judges(self.folder, [judge])
        path = self.folder / "verdicts.parquet"
        verdicts = read_records(path, Verdict) if path.exists() else []
        return {sample: bool(label) for sample, label in judged_by(verdicts, judge).items()}


@dataclass
class ControlCell:
    """The folder ``control/<policy>/<benchmark>/<control>``; ``unsafe`` holds the labels that ``closings`` goes by."""

    control: Control
    source: Source
    models: Models
    unsafe: Mapping[str, bool] = field(default_factory=dict)
    stage: StageFolder = field(init=False)

    def __post_init__(self) -> None:
        spec, stage = self.models.spec, self.models.stage
        places = {key: spec.attribution.results()[key] for key in ("layers", "position")}
        depends = {key: stage.results()[key] for key in DEPENDS_ON[self.control]}
        seed = {"seed": spec.seed} if self.control == "random_lora" else {}
        self.stage = StageFolder(
            stage_folder(spec, "control", stage.policy, self.source.benchmark, self.control),
            config={**spec.model_dump(mode="json"), "policy": stage.policy},
            results={"model": spec.model.results(), "attribution": places, **depends, **seed},
            inputs={
                **self.models.hashes,
                "samples": file_hash(self.source.folder / "samples.parquet"),
                **self._own_inputs(),
            },
        )

    def run(self) -> dict[str, int]:
        """Scores what is missing and closes the folder, which is to be open; returns what its manifest says of it."""
        passes = list(passes_of(self.control, self.models, self.source.samples, self.unsafe))
        log = self.stage.chunk_log("scores", Scores)
        for one in passes:
            self._score(one, log)
        found = _by_sample([row for rows in log.done.values() for row in rows])
        samples, base = self.source.samples, self.models.of(self.control).base_words
        write_scores(self.stage.path / SCORES, self.source.prompts, samples, [found[s.id] for s in samples], base=base)
        facts = {"samples": len(samples), **self._changed(passes[0].samples)}
        self.stage.finish([SCORES], **facts)
        log.remove()
        return facts

    def _own_inputs(self) -> dict[str, str]:
        if self.control == "closings":
            return {"labels": digest(sorted(self.unsafe.items()))}
        return {"unrelated": self.models.unrelated_hash} if self.control == "unrelated" else {}

    def _changed(self, read: Sequence[Sample]) -> dict[str, int]:
        """How many samples were read with another answer; of ends that were swapped, how many were the whole answer."""
        changed = [own for own, other in zip(self.source.samples, read, strict=True) if own.answer != other.answer]
        if self.control != "closings":
            return {"changed": len(changed)}
        closing = self.models.stage.closing
        return {"changed": len(changed), "whole": sum(not split_closing(s.answer, closing)[0] for s in changed)}

    def _score(self, one: Pass, log: ChunkLog[Scores]) -> None:
        chunks = {f"{one.score}/{i:06d}": one.samples[i : i + CHUNK] for i in range(0, len(one.samples), CHUNK)}
        if all(name in log.done for name in chunks):
            return
        with one.models() as loaded, progress_bar(f"{one.score} on {self.source.benchmark}") as progress:
            work = {name: partial(self._read, one.score, loaded, rows) for name, rows in chunks.items()}
            run_chunks(log, work, progress)

    def _read(self, score: str, loaded: LoadedModel, samples: Sequence[Sample]) -> list[Scores]:
        """The similarities of some samples, under the control's name."""
        attribution = self.models.spec.attribution.model_copy(update={"layered": ("similarity",), "flat": ()})
        found = score_samples(loaded, samples, attribution)
        return [replace(s, layered={score: s.layered["similarity"]} if s.layered else {}) for s in found]


def _by_sample(rows: Sequence[Scores]) -> dict[str, Scores]:
    """The scores of every sample, those of all passes as one record."""
    found: dict[str, Scores] = {}
    for row in rows:
        known = found.get(row.sample_id)
        found[row.sample_id] = row if known is None else replace(known, layered={**known.layered, **row.layered})
    return found
