"""The verdicts that an attack is reported by: of judges that no turn depended on, asked once all turns are there."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from dalign.attack.play import item_of
from dalign.attack.turns import Turn
from dalign.control_tokens import record_judge_control
from dalign.files import read_records, write_records
from dalign.judge import JudgeItem, make_judge
from dalign.judge.base import unscored
from dalign.judges_file import record_judge
from dalign.records import Prompt, Verdict
from dalign.specs.judge import AnyJudge, role_of
from dalign.specs.run import RunSpec
from dalign.store import MANIFEST, ChunkLog, StageFolder, progress_bar, run_chunks


def reported_judges(spec: RunSpec) -> dict[str, AnyJudge]:
    """The judges of the role harm by their keys, of one name the first."""
    found: dict[str, AnyJudge] = {}
    for key, judge in spec.judges.items():
        if role_of(key) == "harm" and judge.name not in {j.name for j in found.values()}:
            found[key] = judge
    return found


def judge_turns(
    spec: RunSpec, stage: StageFolder, judges: Mapping[str, AnyJudge], goals: Sequence[Prompt], turns: Sequence[Turn]
) -> None:
    """``judge_items`` for the answer of every turn with its goal; one without an answer has the turn's error."""
    prompts = {goal.id: goal for goal in goals}
    judge_items(spec, stage, judges, [(item_of(turn, prompts[turn.prompt_id]), turn.error) for turn in turns])


def judge_items(
    spec: RunSpec, stage: StageFolder, judges: Mapping[str, AnyJudge], items: Sequence[tuple[JudgeItem, str]]
) -> None:
    """Has the answer of each item judged by every judge that has not judged it, into ``verdicts.parquet``. One judge is
    loaded at a time, and asked once about equal texts. An item with a reason beside it is unscored for that reason."""
    path = stage.path / "verdicts.parquet"
    for key, judge in judges.items():
        old = read_records(path, Verdict) if path.exists() else []
        log: ChunkLog[Verdict] = stage.chunk_log(f"verdicts_{key}", Verdict)
        known = {v.sample_id for v in old if v.judge == judge.name}
        if left := [one for one in items if one[0].sample_id not in known]:
            (stage.path / MANIFEST).unlink(missing_ok=True)
            write_records(path, [*old, *_verdicts(spec, stage, judge, left, log)])
            gc.collect()
        log.remove()


def _verdicts(
    spec: RunSpec,
    stage: StageFolder,
    judge: AnyJudge,
    items: Sequence[tuple[JudgeItem, str]],
    log: ChunkLog[Verdict],
) -> list[Verdict]:
    made = make_judge(judge, world_seed=spec.world_seed, paths=spec.paths, others=spec.judges)
    record_judge(stage.path, judge, made)
    record_judge_control(stage.path, made)
    asked = {_seen(item): item for item, reason in reversed(items) if not reason}
    rows = list(reversed(asked.values()))
    chunks = {f"{i:06d}": rows[i : i + judge.chunk] for i in range(0, len(rows), judge.chunk)}
    work = {name: partial(made.judge, part, "answer") for name, part in chunks.items()}
    with progress_bar(f"{stage.path.name}: verdicts of {judge.name}") as progress:
        found = {v.sample_id: v for v in run_chunks(log, work, progress)}
    return [
        unscored(item, judge.name, "answer", reason)
        if reason
        else replace(found[asked[_seen(item)].sample_id], sample_id=item.sample_id)
        for item, reason in items
    ]


def _seen(item: JudgeItem) -> tuple[str, ...]:
    """All that a judge goes by."""
    return (item.prompt.id, item.reasoning, item.answer, item.finish_reason, str(item.closed))
