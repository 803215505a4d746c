"""The verdicts that an attack is reported by: of judges that no turn depended on, asked once all turns are there."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from functools import partial

from dalign.attack.play import item_of
from dalign.attack.turns import Turn
from dalign.files import read_records, write_records
from dalign.judge import Judge, JudgeItem, make_judge
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
    loaded at a time. An item with a reason beside it is unscored for that reason, and nobody is asked."""
    path = stage.path / "verdicts.parquet"
    for key, judge in judges.items():
        old = read_records(path, Verdict) if path.exists() else []
        log: ChunkLog[Verdict] = stage.chunk_log(f"verdicts_{key}", Verdict)
        known = {v.sample_id for v in old if v.judge == judge.name}
        if left := [one for one in items if one[0].sample_id not in known]:
            (stage.path / MANIFEST).unlink(missing_ok=True)
            made = make_judge(judge, world_seed=spec.world_seed, paths=spec.paths, others=spec.judges)
            record_judge(stage.path, judge, made)
            chunks = {f"{i:06d}": left[i : i + judge.chunk] for i in range(0, len(left), judge.chunk)}
            work = {name: partial(_verdicts, made, rows) for name, rows in chunks.items()}
            with progress_bar(f"{stage.path.name}: verdicts of {judge.name}") as progress:
                write_records(path, [*old, *run_chunks(log, work, progress)])
            del made, work
            gc.collect()
        log.remove()


def _verdicts(judge: Judge, items: Sequence[tuple[JudgeItem, str]]) -> list[Verdict]:
    found = iter(judge.judge([item for item, reason in items if not reason], "answer"))
    return [unscored(item, judge.name, "answer", reason) if reason else next(found) for item, reason in items]
