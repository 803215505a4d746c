"""Verdicts as arrays: one ``Judged`` a judge and part, in the order of the cell's prompts and samples.

A verdict on a sample that is not there, and a second one on the same part, are an ``ArtifactError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dalign.errors import ArtifactError
from dalign.files import read_records
from dalign.records import Part, Verdict
from dalign.report.metrics import Bools, Floats

NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Judged:
    """What one judge found on one part: ``(P, N)`` labels ("" where it was not asked), reasons, a rubric's scores and
    P(unsafe) (NaN where there is none), categories, and one array of right and wrong a reading."""

    judge: str
    part: Part
    label_PN: NDArray[np.str_]
    reason_PN: NDArray[np.object_]
    score_PN: Floats
    p_unsafe_PN: Floats
    category_PN: NDArray[np.object_]
    correct: dict[str, Bools]

    @classmethod
    def blank(cls, judge: str, part: Part, shape: tuple[int, int]) -> Judged:
        """A judge that was asked nothing."""
        reason, category = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
        score, p_unsafe = np.full(shape, np.nan), np.full(shape, np.nan)
        return cls(judge, part, np.full(shape, "", dtype="<U8"), reason, score, p_unsafe, category, {})

    def put(self, at: tuple[int, int], verdict: Verdict) -> None:
        """Writes a verdict at its place."""
        self.label_PN[at] = verdict.label
        self.reason_PN[at] = verdict.reason
        self.score_PN[at] = np.nan if verdict.score is None else verdict.score
        self.p_unsafe_PN[at] = np.nan if verdict.p_unsafe is None else verdict.p_unsafe
        self.category_PN[at] = verdict.category
        for reading, right in verdict.correct.items():
            if reading not in self.correct:
                self.correct[reading] = np.zeros(self.label_PN.shape, dtype=bool)
            self.correct[reading][at] = right


def judged_of(path: Path, sample_ids_PN: NDArray[np.str_]) -> tuple[Judged, ...]:
    """The verdicts of a file, one ``Judged`` a judge and part; readings that a judge gave only at times are wrong where
    it did not."""
    place = {str(name): (int(i), int(j)) for (i, j), name in np.ndenumerate(sample_ids_PN)}
    found: dict[tuple[str, Part], Judged] = {}
    seen: set[tuple[str, str, Part]] = set()
    for v in read_records(path, Verdict):
        if v.sample_id not in place:
            raise ArtifactError(f"{path}: verdict of {v.judge!r} on a sample that is not there ({v.sample_id})")
        if (v.sample_id, v.judge, v.part) in seen:
            raise ArtifactError(f"{path}: {v.judge!r} has two verdicts on the {v.part} of sample {v.sample_id}")
        seen.add((v.sample_id, v.judge, v.part))
        if (v.judge, v.part) not in found:
            found[v.judge, v.part] = Judged.blank(v.judge, v.part, sample_ids_PN.shape)
        found[v.judge, v.part].put(place[v.sample_id], v)
    return tuple(found[key] for key in sorted(found))
