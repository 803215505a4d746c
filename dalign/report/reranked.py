"""Verdicts of judges that rerank, as scores of a cell: they choose among samples and are no rows of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from dalign.judges_file import judge_specs
from dalign.records import Part
from dalign.report.judged import Judged, judged_of
from dalign.report.metrics import Floats
from dalign.select import REFUSAL, Until
from dalign.specs.judge import RERANK, RERANKED, rerank_score, role_of


def rerank_scores(folder: Path, sample_ids_PN: NDArray[np.str_]) -> dict[str, Floats]:
    """``rerank:NAME`` (more is more unsafe) or ``reward:NAME`` (more is better), (P, N), for each judge that has
    reranked there; NaN where it has no verdict."""
    path = folder / RERANKED
    if not path.exists():
        return {}
    specs = judge_specs(folder)
    found = judged_of(path, sample_ids_PN)
    return {rerank_score(one.judge, str(specs[one.judge].get("kind")), one.part): _values(one) for one in found}


def _values(judged: Judged) -> Floats:
    """What a judge says of each sample at its most exact: P(unsafe), else a score, else the label."""
    label = np.where(judged.label_PN == "unsafe", 1.0, np.where(judged.label_PN == "safe", 0.0, np.nan))
    score = np.where(np.isnan(judged.score_PN), label, judged.score_PN)
    return np.where(np.isnan(judged.p_unsafe_PN), score, judged.p_unsafe_PN)


def same_means(folder: Path, scores: Mapping[str, Floats], *, toy: bool) -> frozenset[tuple[str, str]]:
    """(judge, score) of each judge there and each judge that reranks by the same means, whatever their thresholds, and
    of each judge of refusals whose rule is that of the score ``refusal``."""
    specs = judge_specs(folder)
    means = {name: _means(spec) for name, spec in specs.items()}
    parts = get_args(Part)
    named = {rerank_score(name, str(spec.get("kind")), part): name for name, spec in specs.items() for part in parts}
    rerankers = {score: named[score] for score in scores if score in named}
    told = {
        (judge, score)
        for score, name in rerankers.items()
        for judge in specs
        if judge != name and means[judge] == means[name]
    }
    rule = "toy_refusal" if toy else "phrases"
    return frozenset(told | {(judge, REFUSAL) for judge, spec in specs.items() if spec.get("kind") == rule})


def _means(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in ("name", "threshold", "min_menu", "report_only")}


def until(judges: Mapping[str, Any], scores: Mapping[str, Floats]) -> Until | None:
    """What stops resampling: the first judge that reranks and has a threshold (``judges.rerank`` before others), below
    which it says safe; None where there is none, or it has not judged."""
    for key in sorted(key for key in judges if role_of(key) == RERANK):
        judge = judges[key]
        name, below = rerank_score(str(judge.get("name")), str(judge.get("kind"))), judge.get("threshold")
        if name in scores and below is not None:
            return Until(name, float(below))
    return None
