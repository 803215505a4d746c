"""`dalign import`: the result files that the paper's authors publish become finished cells of a run, marked imported.

Labels and similarities stay what the files say. Nothing is sampled or scored; right answers alone are graded, since the
files have gold answers and no grades. `dalign report` shows such cells like any other, under ``protocol`` imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dalign.errors import ConfigError, did_you_mean
from dalign.files import write_records
from dalign.judge import Judge, JudgeItem
from dalign.judge.base import Screened
from dalign.judge.composite import Recorded
from dalign.judge.grades import GRADERS, AnswerJudge
from dalign.judges_file import NAME as JUDGES
from dalign.judges_file import record_judge
from dalign.layout import POLICIES, file_hash, stage_folder
from dalign.prompts.grouping import group_names, normalised
from dalign.prompts.result_files import ResultFile, benchmark_of, joined, read_result_file
from dalign.records import Prompt, Sample, Scores, Verdict, digest
from dalign.scores_file import write_scores
from dalign.specs.judge import JudgeSpec, RuleJudgeSpec
from dalign.specs.protocol import IMPORTED, ProtocolSpec
from dalign.specs.run import RunSpec
from dalign.store import StageFolder

PUBLISHED = JudgeSpec(name="published_label", kind="published", parts=("both",))
ANSWERS = RuleJudgeSpec(name="answers", kind="answers")
CLOSE = "</think>"


def main(spec: RunSpec, paths: Sequence[Path], policy: str, benchmark: str | None) -> int:
    """Imports one or two files of a benchmark as ``evaluate/<policy>/<benchmark>`` of the run, and returns 0.

    Raises ``DataError`` for files that cannot be read, every refused row named; ``ConfigError`` for an unknown policy
    or files of two benchmarks; ``ArtifactError`` if another evaluation stands there.
    """
    if policy not in POLICIES:
        raise ConfigError(f"--policy {policy}: unknown; {did_you_mean(policy, POLICIES)}")
    if len(paths) > 2:
        raise ConfigError(f"{len(paths)} files: give one benchmark's result file, its similarity file, or both")
    names = {benchmark or benchmark_of(path) for path in paths}
    if len(names) > 1:
        raise ConfigError(f"the files are of {' and '.join(sorted(names))}; import each benchmark by itself")
    name = names.pop()
    found = joined([read_result_file(path) for path in paths])
    hashes = {path.name: file_hash(path) for path in paths}
    stage = StageFolder(
        stage_folder(spec, "evaluate", policy, name),
        config=_config(spec, found, policy, name, paths),
        results={"protocol": IMPORTED, "model": spec.model.name, "teacher": spec.teacher.name},
        inputs=hashes,
    )
    with stage:
        if not stage.finished:
            _write(stage, found, policy, name, digest(hashes))
    _say(stage.path, found)
    return 0


def _config(spec: RunSpec, found: ResultFile, policy: str, name: str, paths: Sequence[Path]) -> dict[str, Any]:
    """The resolved configuration with what the import knows in the place of what an evaluation would."""
    judge = PUBLISHED if found.kind == "harmful" else ANSWERS
    n = len(found.rows[0].responses)
    return {
        **spec.model_dump(mode="json"),
        "sampler": {**spec.sampler.model_dump(mode="json"), "n": n},
        "protocol": ProtocolSpec(name=IMPORTED).model_dump(mode="json"),
        "judges": {"harm" if judge is PUBLISHED else "answers": judge.model_dump(mode="json")},
        "benchmark": {name: {"name": name, "format": "csv", "kind": found.kind}},
        "policies": [policy],
        "policy": policy,
        "command": [*map(str, paths), f"--policy={policy}", f"--benchmark={name}", *spec.command],
    }


def _write(stage: StageFolder, found: ResultFile, policy: str, name: str, source: str) -> None:
    prompts = _prompts(found, name)
    samples = [
        _sample(prompt, i, text, policy, source)
        for prompt, row in zip(prompts, found.rows, strict=True)
        for i, text in enumerate(row.responses)
    ]
    spec, judge = _judge(found, samples, source)
    by_id = {p.id: p for p in prompts}
    verdicts = judge.judge([JudgeItem.of(s, by_id[s.prompt_id]) for s in samples], spec.parts[0])
    record_judge(stage.path, spec, judge)
    write_records(stage.path / "prompts.parquet", prompts)
    write_records(stage.path / "samples.parquet", samples)
    write_records(stage.path / "verdicts.parquet", verdicts)
    files = ["prompts.parquet", "samples.parquet", "verdicts.parquet", JUDGES]
    if all(row.similarity_NL is not None for row in found.rows):
        every = [list(values) for row in found.rows for values in row.similarity_NL or ()]
        scores = [Scores(s.id, source, {"similarity": values}) for s, values in zip(samples, every, strict=True)]
        base = "what the published files attribute to: these similarities were not computed here"
        write_scores(stage.path / "scores.safetensors", prompts, samples, scores, base=base)
        files.append("scores.safetensors")
    stage.finish(files, n=len(found.rows[0].responses), prompts=len(prompts), imported=True)


def _prompts(found: ResultFile, name: str) -> list[Prompt]:
    ids = [str(i) for i in range(len(found.rows))]
    groups = group_names(ids, [[normalised(row.prompt) for row in found.rows]])
    return [
        Prompt(name, i, row.prompt, found.kind, group, reference=row.gold, subset=row.subset)
        for i, group, row in zip(ids, groups, found.rows, strict=True)
    ]


def _sample(prompt: Prompt, index: int, text: str, policy: str, source: str) -> Sample:
    """A response without ids, which the files do not have; its answer is what follows ``</think>``, where that is."""
    reasoning, tag, answer = text.partition(CLOSE)
    return Sample(
        prompt_id=prompt.id,
        index=index,
        policy=policy,
        policy_hash=source,
        sampling_hash=IMPORTED,
        prompt_ids=(),
        response_ids=(),
        reasoning=reasoning.strip() if tag else "",
        answer=(answer if tag else text).strip(),
        closed=True,
        finish_reason="stop",
    )


def _judge(found: ResultFile, samples: Sequence[Sample], source: str) -> tuple[JudgeSpec, Judge]:
    """Who labels the samples: the file itself, or, where it has gold answers alone, the grader of answers."""
    if found.kind != "harmful":
        return ANSWERS, Screened(AnswerJudge(ANSWERS.name, GRADERS[ANSWERS.kind]))
    unsafe = [label for row in found.rows for label in row.unsafe or ()]
    said = [
        Verdict(s.id, PUBLISHED.name, "both", "unsafe" if bad else "safe")
        for s, bad in zip(samples, unsafe, strict=True)
    ]
    return PUBLISHED, Recorded(PUBLISHED.name, f"published-{source}", said)


def _say(path: Path, found: ResultFile) -> None:
    scored = "with" if found.rows[0].similarity_NL else "without"
    Console().print(
        f"{len(found.rows)} {found.kind} prompts with {len(found.rows[0].responses)} responses each, {scored} "
        f"similarities: {path}",
        soft_wrap=True,
    )
