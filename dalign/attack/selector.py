"""The attack on the selector, over one finished cell of an evaluation: edit, score again, judge again.

``drawn`` are the run's own samples; ``appended``, ``cut`` and ``both`` edit their answers, as one could who stands
between sampler and selector; ``style`` draws again from prompts that ask for such answers, as any user could.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from dalign.attack.edits import VARIANTS, Variant, edited, styled
from dalign.attack.reported import judge_items, reported_judges
from dalign.control_tokens import CONTROL_FILE, MODEL, record_control, record_judge_control
from dalign.drawing import draw_samples, score_samples, with_answer
from dalign.errors import ArtifactError
from dalign.files import read_records, write_records
from dalign.judge import Judge, JudgeItem
from dalign.judges_file import NAME as JUDGES
from dalign.judges_file import check_judges, record_judge
from dalign.layout import evaluated_cell, file_hash, stage_folder
from dalign.policies import Policy, policy_inputs
from dalign.prompts.spread import spread
from dalign.records import EVENTS, Prompt, Record, Sample, Scores, Verdict, digest
from dalign.scores_file import write_scores
from dalign.specs.attack import SelectorAttackSpec
from dalign.specs.run import RunSpec
from dalign.store import StageFolder, progress_bar, run_chunks

R = TypeVar("R", bound=Record)
Ids = tuple[tuple[int, ...], tuple[int, ...]]
CHUNK = 16  # prompts between two commits
LOGS = ("labels", "samples", "scores")


@dataclass
class SelectorCell:
    """The folder ``attack/<attack>/<policy>/<benchmark>``; it reads ``evaluate/<policy>/<benchmark>``."""

    spec: RunSpec
    attack: SelectorAttackSpec
    policy: str
    benchmark: str
    loader: Callable[[], Policy]
    judge: Callable[[], Judge]
    stage: StageFolder = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        remedy = "run the same command without attack= first"
        self.source = evaluated_cell(spec, self.policy, self.benchmark, remedy=remedy)
        shared = {"model": spec.model.results(), "sampler": spec.sampler.results(), "seed": spec.seed}
        scoring = {"attribution": spec.attribution.results(), "limit": spec.limit, "world_seed": spec.world_seed}
        samples = {"samples": file_hash(self.source / "samples.parquet")}
        self.stage = StageFolder(
            stage_folder(spec, "attack", self.attack.name, self.policy, self.benchmark),
            config={**spec.model_dump(mode="json"), "policy": self.policy},
            results={**shared, **scoring, "attack": self.attack.results()},
            inputs={**policy_inputs(spec, self.policy), **samples},
        )

    @property
    def path(self) -> Path:
        return self.stage.path

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The harmful prompts that the run drew for, thinned to ``limit``."""
        harmful = [p for p in read_records(self.source / "prompts.parquet", Prompt) if p.kind == "harmful"]
        if not harmful:
            raise ArtifactError(f"{self.source}: holds no harmful prompt, so nothing can be attacked there")
        return spread(harmful, self.spec.limit, [prompt.subset for prompt in harmful])

    @cached_property
    def drawn(self) -> dict[str, list[Sample]]:
        """The run's samples of each prompt, by index."""
        found: dict[str, list[Sample]] = {prompt.id: [] for prompt in self.prompts}
        for sample in read_records(self.source / "samples.parquet", Sample):
            if sample.prompt_id in found:
                found[sample.prompt_id].append(sample)
        return {key: sorted(rows, key=lambda s: s.index) for key, rows in found.items()}

    def run(self) -> None:
        """Does what is missing and closes the folder. To be called inside ``stage``."""
        judges = reported_judges(self.spec)
        check_judges(self.path, [*judges.values(), self.attack.judge])
        if not (self.path / "prompts.parquet").exists():
            record_judge(self.path, self.attack.judge, self.judge())
            record_judge_control(self.path, self.judge())
            record_control(self.path, MODEL, self.loader().loaded.chat.control_strings)
            self._edit_and_score()
        for name in LOGS:
            (self.path / f"{name}.jsonl").unlink(missing_ok=True)
        goals = {prompt.id: prompt for prompt in self.prompts}
        samples = [sample for variant in VARIANTS for sample in self.samples(variant)]
        judge_items(self.spec, self.stage, judges, [(JudgeItem.of(s, goals[s.prompt_id]), "") for s in samples])
        if not self.stage.finished:
            files = [name for v in VARIANTS for name in (f"{v}.samples.parquet", f"{v}.scores.safetensors")]
            files += ["prompts.parquet", "verdicts.parquet", JUDGES, CONTROL_FILE]
            self.stage.finish([f for f in files if (self.path / f).exists()], prompts=len(self.prompts))

    def samples(self, variant: Variant) -> list[Sample]:
        """The final samples of a variant, prompt after prompt."""
        return read_records(self.path / f"{variant}.samples.parquet", Sample)

    def _edit_and_score(self) -> None:
        """Samples and scores of every variant; ``prompts.parquet`` comes last and says that they are complete."""
        parts = {f"{i:06d}": self.prompts[i : i + CHUNK] for i in range(0, len(self.prompts), CHUNK)}
        labels = self._done("labels", Verdict, {name: partial(self._labels, rows) for name, rows in parts.items()})
        unsafe = {v.sample_id for rows in labels.values() for v in rows if v.label in EVENTS}
        plan = [(variant, name) for variant in VARIANTS for name in parts]
        make = {f"{v}/{name}": partial(self._samples, v, parts[name], unsafe) for v, name in plan}
        samples = self._done("samples", Sample, make)
        first: dict[Ids, str] = {}  # equal pairs score alike: each is scored once
        for sample in (s for rows in samples.values() for s in rows):
            first.setdefault(_pair(sample), sample.id)
        fresh = {name: [s for s in rows if first[_pair(s)] == s.id] for name, rows in samples.items()}
        loaded = self.loader().loaded
        read = partial(score_samples, loaded, spec=self.spec.attribution)
        scores = self._done("scores", Scores, {name: partial(read, rows) for name, rows in fresh.items()})
        found = {s.sample_id: s for rows in scores.values() for s in rows}
        for variant in VARIANTS:
            rows = [s for name in parts for s in samples[f"{variant}/{name}"]]
            own = [replace(found[first[_pair(s)]], sample_id=s.id) for s in rows]
            write_records(self.path / f"{variant}.samples.parquet", rows)
            path = self.path / f"{variant}.scores.safetensors"
            write_scores(path, self.prompts, rows, own, base=loaded.base_words)
        write_records(self.path / "prompts.parquet", self.prompts)

    def _done(self, name: str, kind: type[R], work: Mapping[str, Callable[[], Sequence[R]]]) -> dict[str, Sequence[R]]:
        """The chunks of ``work``, those that ``name``.jsonl lacks done now."""
        log = self.stage.chunk_log(name, kind)
        with progress_bar(f"{self.policy} on {self.benchmark}: {name}") as progress:
            run_chunks(log, work, progress)
        return {chunk: log.done[chunk] for chunk in work}

    def _labels(self, prompts: Sequence[Prompt]) -> list[Verdict]:
        """What the adversary takes for unsafe, by a judge of its own."""
        items = [JudgeItem.of(sample, prompt) for prompt in prompts for sample in self.drawn[prompt.id]]
        return self.judge().judge(items, "answer")

    def _samples(self, variant: Variant, prompts: Sequence[Prompt], unsafe: Collection[str]) -> list[Sample]:
        if variant == "style":
            return self._styled(prompts)
        return [self._edited(s, variant, s.id in unsafe) for prompt in prompts for s in self.drawn[prompt.id]]

    def _edited(self, sample: Sample, variant: Variant, unsafe: bool) -> Sample:
        """The sample as the variant leaves it; where its answer changes, with the ids of the changed text."""
        answer, attack = sample.answer, self.attack
        if sample.finished:
            answer = edited(answer, variant, unsafe=unsafe, sentence=attack.sentence, phrases=attack.phrases)
        named = replace(sample, sampling_hash=digest(sample.sampling_hash, variant))
        return named if answer == sample.answer else with_answer(self.loader(), named, answer)

    def _styled(self, prompts: Sequence[Prompt]) -> list[Sample]:
        """Fresh samples of the prompts with the style behind them, under the prompts' own ids."""
        asked = [replace(prompt, text=styled(prompt.text, self.attack.style)) for prompt in prompts]
        n = len(self.drawn[prompts[0].id])
        drawn = draw_samples(self.loader(), asked, range(n), self.spec.sampler, self.spec.seed)
        own = {styled.id: prompt.id for styled, prompt in zip(asked, prompts, strict=True)}
        return [replace(sample, prompt_id=own[sample.prompt_id]) for sample in drawn]


def _pair(sample: Sample) -> Ids:
    return sample.prompt_ids, sample.response_ids
