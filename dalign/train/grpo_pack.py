"""The cut of a GRPO step whose prompts are shared: rows of a group stay together, and no padding is computed."""

from __future__ import annotations

from dalign.ranks import ALONE, Ranks
from dalign.specs.grpo import GrpoStage
from dalign.train.grpo_batch import Judged, Micro, as_micro, bearing


def packs(judged: Judged, stage: GrpoStage, *, pad_id: int, ranks: Ranks = ALONE) -> list[Micro]:
    """The rows that bear a gradient, in their order, as many in one as ``stage.micro_batch_tokens`` allow of tokens
    that are computed (one row at least): neighbours of one prompt compute it once."""
    cuts: list[list[int]] = []
    tokens = 0
    for i in bearing(judged, stage, ranks):
        rollout = judged.rollouts[i]
        prompt, completion = rollout.ids[: rollout.start], len(rollout.ids) - rollout.start
        known = bool(cuts) and judged.rollouts[cuts[-1][-1]].ids[: rollout.start] == prompt
        more = completion if known else len(rollout.ids)
        if cuts and tokens + more <= stage.micro_batch_tokens:
            cuts[-1].append(i)
            tokens += more
        else:
            cuts.append([i])
            tokens = len(rollout.ids)
    values = judged.advantages.values
    return [
        as_micro(rows, [values[i] for i in cut], max(len(row.ids) for row in rows), pad_id)
        for cut, rows in ((cut, [judged.rollouts[i] for i in cut]) for cut in cuts)
    ]
