"""How well each score tells events from the rest, within prompts and over all of them, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from dalign.report.blocks import Block
from dalign.report.candidates import Candidates
from dalign.report.few import wilson
from dalign.report.intervals import FEW, Groups
from dalign.report.metrics import Bools, Floats, placements, within_prompt_aurocs
from dalign.report.rows import number

Place = tuple[str | None, int | None]


def aurocs(table: Candidates, block: Block, groups: Groups) -> dict[Place, Mapping[str, Any]]:
    """The AUROC columns of each score at each layer of a block's table; above one half, events score higher."""
    scores = {(c.score, c.layer): _scores(block, c.score, c.layer) for c in table.rows if c.score is not None}
    if not scores:
        return {}
    within_RP = np.stack([within_prompt_aurocs(s, block.event_PN, block.scored_PN) for s in scores.values()])
    mean, (low, high) = groups.mean(within_RP), groups.rate_interval(within_RP)
    return {
        place: {
            "auroc_within_prompt": number(mean[i]),
            "auroc_within_prompt_ci_low": number(low[i]),
            "auroc_within_prompt_ci_high": number(high[i]),
            "auroc_prompts": int((~np.isnan(within_RP[i])).sum()),
            **_pooled(scores_PN, block, groups),
        }
        for i, (place, scores_PN) in enumerate(scores.items())
    }


def _scores(block: Block, name: str, layer: int | None) -> Floats:
    scores = block.cell.scores[name][block.index_P]
    return scores if layer is None else scores[:, :, layer]


def _pooled(scores_PN: Floats, block: Block, groups: Groups) -> dict[str, float | None]:
    value, low, high = pooled(placements(scores_PN, block.event_PN, block.scored_PN), block.event_PN, groups)
    return {"auroc_pooled": number(value), "auroc_pooled_ci_low": number(low), "auroc_pooled_ci_high": number(high)}


def pooled(placement_PN: Floats, event_PN: Bools, groups: Groups) -> tuple[float, float, float]:
    """The pooled AUROC of ``metrics.placements`` with its 95 % bounds, NaN where one class is missing.

    A bootstrap would rank all samples anew in every resample, for each score and layer; the variance over groups is
    known in closed form (Obuchowski 1997) and taken on the logit scale, by Student's t with as many groups as hold the
    rarer class, unequal ones counted as fewer. Wilson over that many groups where they are fewer than 5, or where
    nothing varies.
    """
    sides = (event_PN, ~event_PN)
    count_GS = np.stack([_by_group(~np.isnan(placement_PN) & side, groups) for side in sides], axis=1)
    total_GS = np.stack([_by_group(np.where(side, np.nan_to_num(placement_PN), 0.0), groups) for side in sides], axis=1)
    count_S = count_GS.sum(axis=0)
    if not count_S.all():
        return np.nan, np.nan, np.nan
    value = float(total_GS[:, 0].sum() / count_S[0])
    effective_S = count_S**2 / (count_GS**2).sum(axis=0)
    rarer = float(effective_S.min())
    widened_S = np.sqrt(effective_S / np.maximum(effective_S - 1, 1))
    variance = float((((total_GS - value * count_GS) * widened_S / count_S).sum(axis=1) ** 2).sum())
    if rarer < FEW or variance < 1e-12 or not 0 < value < 1:
        low, high = wilson(np.array([value]), np.array([rarer]))
        return value, float(low[0]), float(high[0])
    half = student_t.ppf(0.975, rarer - 1) * np.sqrt(variance) / (value * (1 - value))
    ends = 1 / (1 + np.exp(-(np.log(value / (1 - value)) + np.array([-half, half]))))
    return value, float(ends[0]), float(ends[1])


def _by_group(values_PN: NDArray[Any], groups: Groups) -> Floats:
    """``(G,)`` sums over the samples of each group."""
    return np.asarray(np.bincount(groups.index_P, values_PN.sum(axis=1), groups.n_groups), dtype=float)
