"""One cell of an evaluation: a policy on a benchmark. Draws what is missing, scores it, has it judged.

More samples, judges or benchmarks never redo what is there: the plan is what the final files lack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dalign.control_tokens import CONTROL_FILE, MODEL, record_control, record_judge_control
from dalign.drawing import SAMPLES_STEP, draw_samples, sampling_plan, score_samples
from dalign.files import read_records, write_records
from dalign.judges_file import NAME as JUDGES
from dalign.judges_file import recorded_version
from dalign.layout import ADAPTER_POLICIES, cell_folder, stage_folder
from dalign.policies import Policy, policy_inputs, prefilled
from dalign.prompts import load_benchmark
from dalign.records import Part, Prompt, Sample, Scores, Verdict, digest
from dalign.scores_file import read_scores, write_scores
from dalign.sizes import NAME as SIZES
from dalign.sizes import record_sizes
from dalign.specs.data import BenchmarkSpec
from dalign.specs.judge import RERANK, RERANKED, AnyJudge, role_of
from dalign.specs.protocol import CORRECTED, PREFILLED
from dalign.specs.run import RunSpec
from dalign.store import StageFolder, run_chunks
from dalign.verdict_file import Progress, VerdictFile

if TYPE_CHECKING:
    from dalign.judge import Judge


@dataclass
class Cell:
    """The folder ``evaluate/<policy>/<benchmark>`` and what is planned for it; ``policy`` loads the model.

    ``prefilled`` cells (``<benchmark>@prefilled``) ask the same prompts without reasoning, the answer begun.
    """

    spec: RunSpec
    name: str
    benchmark: BenchmarkSpec
    policy: Callable[[], Policy]
    prefilled: bool = False
    stage: StageFolder = field(init=False)

    def __post_init__(self) -> None:
        self.stage = StageFolder(
            stage_folder(self.spec, "evaluate", self.name, cell_folder(self.benchmark.name, self.protocol)),
            config={**self.spec.model_dump(mode="json"), "policy": self.name},
            results=self._results(),
            inputs={**policy_inputs(self.spec, self.name), "prompts": digest([p.id for p in self.prompts])},
        )

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        return load_benchmark(
            self.benchmark, paths=self.spec.paths, world_seed=self.spec.world_seed, limit=self.spec.limit
        )

    @property
    def protocol(self) -> str:
        """The protocol by which the samples are drawn."""
        return PREFILLED if self.prefilled else CORRECTED

    @property
    def path(self) -> Path:
        return self.stage.path

    @property
    def _verdicts(self) -> VerdictFile:
        return VerdictFile(self.path / "verdicts.parquet")

    @property
    def _reranked(self) -> VerdictFile:
        """Verdicts that choose among samples, apart from those that are reported."""
        return VerdictFile(self.path / RERANKED)

    @property
    def judges(self) -> dict[str, AnyJudge]:
        """The judges whose role the benchmark names, ``harm_truth`` has the role ``harm``; and those that rerank."""
        roles, found = (*self.benchmark.roles, RERANK), dict[str, AnyJudge]()
        for key, judge in self.spec.judges.items():
            if role_of(key) in roles and judge.name not in {j.name for j in found.values()}:
                found[key] = judge  # one judge in two roles is asked once
        return found

    def check(self) -> None:
        """Raises ``ArtifactError`` if verdicts here are of another judge than the one configured under its name."""
        self._verdicts.check(self.judges.values())

    def samples(self) -> list[Sample]:
        """The final samples of the folder, none if there are none yet."""
        path = self.path / "samples.parquet"
        return read_records(path, Sample) if path.exists() else []

    def verdicts(self) -> list[Verdict]:
        """The final verdicts of the folder that are reported."""
        return self._verdicts.read()

    def missing(self) -> list[tuple[Prompt, range]]:
        """The prompts whose N samples are not all there, with the sample indices they lack."""
        have: dict[str, int] = dict.fromkeys((p.id for p in self.prompts), 0)
        for sample in self.samples():
            have[sample.prompt_id] += 1
        n = self.spec.sampler.n
        return [(p, range(have[p.id], n)) for p in self.prompts if have[p.id] < n]

    def unjudged(self) -> dict[tuple[str, Part], list[Sample]]:
        """For each judge (its key) and part, the samples it has not judged."""
        samples = self.samples()
        reporting = {key: judge for key, judge in self.judges.items() if role_of(key) != RERANK}
        others = {key: judge for key, judge in self.judges.items() if role_of(key) == RERANK}
        return {**self._verdicts.lacking(reporting, samples), **self._reranked.lacking(others, samples)}

    def draw(self, progress: Progress | None = None) -> None:
        """Draws the samples that are missing, commits them chunk by chunk, and writes the final files of this step."""
        plan = sampling_plan(self.missing(), self.spec.sampler.chunk)
        old = self.samples()
        if not plan:
            return
        (self.path / "manifest.json").unlink(missing_ok=True)
        log = self.stage.chunk_log("samples", Sample)
        work = {name: partial(self._draw, rows, indices) for name, (rows, indices) in plan.items()}
        new = run_chunks(log, work, progress)
        order = {p.id: i for i, p in enumerate(self.prompts)}
        rows = sorted([*old, *new], key=lambda s: (order[s.prompt_id], s.index))
        write_records(self.path / "prompts.parquet", self.prompts)
        write_records(self.path / "samples.parquet", rows)
        log.remove()

    def unscored(self) -> list[Sample]:
        """The samples that lack scores, where the policy has a base to be attributed to."""
        if self.name not in ADAPTER_POLICIES:
            return []
        samples = self.samples()
        path = self.path / "scores.safetensors"
        old = read_scores(path, samples) if path.exists() else {}
        return [s for s in samples if s.id not in old]

    def score(self, progress: Progress | None = None) -> None:
        """Scores the samples that have none, and writes the scores of all."""
        todo, samples = self.unscored(), self.samples()
        if not todo:
            return
        path = self.path / "scores.safetensors"
        old = read_scores(path, samples) if path.exists() else {}
        log = self.stage.chunk_log("scores", Scores)
        size = self.spec.sampler.chunk * SAMPLES_STEP
        chunks = {f"{i:05d}": todo[i : i + size] for i in range(0, len(todo), size)}
        loaded = self.policy().loaded
        record_sizes(self.path, loaded)
        read = partial(score_samples, loaded, spec=self.spec.attribution)
        new = run_chunks(log, {name: partial(read, rows) for name, rows in chunks.items()}, progress)
        found = {**old, **{s.sample_id: s for s in new}}
        write_scores(path, self.prompts, samples, [found[s.id] for s in samples], base=loaded.base_words)
        log.remove()

    def judge(self, key: str, judge: Judge, progress: Progress | None = None) -> None:
        """Has the samples judged that the judge configured under ``key`` has not seen."""
        todo = {part: rows for (asked, part), rows in self.unjudged().items() if asked == key}
        if not todo:
            return
        (self.path / "manifest.json").unlink(missing_ok=True)
        log = self.stage.chunk_log(f"verdicts_{key}", Verdict)
        record_judge_control(self.path, judge)
        file = self._reranked if role_of(key) == RERANK else self._verdicts
        file.add(self.judges[key], judge, todo, self.prompts, log, progress)

    def judge_on_record(self, name: str) -> Judge:
        """The judge of that name, as far as it has given its verdicts here."""
        from dalign.judge.composite import Recorded

        return Recorded(name, recorded_version(self.path, name), [*self.verdicts(), *self._reranked.read()])

    def close(self) -> None:
        """Writes the manifest, once everything that is configured is there."""
        if self.stage.finished:
            return
        names = ["prompts.parquet", "samples.parquet", "scores.safetensors", "verdicts.parquet", RERANKED]
        names += [JUDGES, CONTROL_FILE, SIZES]
        files = [name for name in names if (self.path / name).exists()]
        judges = sorted({f"{v.judge}/{v.part}" for v in self.verdicts()})
        counts: dict[str, int] = {}
        for sample in self.samples():
            counts[sample.finish_reason] = counts.get(sample.finish_reason, 0) + 1
        self.stage.finish(
            files,
            n=self.spec.sampler.n,
            prompts=len(self.prompts),
            judges=judges,
            finish_reasons=counts,
            chunk=self.spec.sampler.chunk,
        )

    def _results(self) -> dict[str, object]:
        spec = self.spec
        shared = {"model": spec.model.results(), "sampler": spec.sampler.results(), "seed": spec.seed}
        scoring = {"attribution": spec.attribution.results(), "benchmark": self.benchmark.results()}
        teacher = {"teacher": spec.teacher.results()} if self.name == "teacher" else {}
        begun = {"prefill": self.benchmark.prefill} if self.prefilled else {}
        return {**shared, **scoring, **teacher, **begun, "world_seed": spec.world_seed}

    def _draw(self, prompts: Sequence[Prompt], indices: range) -> list[Sample]:
        policy = self.policy()
        record_control(self.path, MODEL, policy.loaded.chat.control_strings)
        record_sizes(self.path, policy.loaded)
        asked = prefilled(policy, self.benchmark.prefill) if self.prefilled else policy
        return draw_samples(asked, prompts, indices, self.spec.sampler, self.spec.seed)
