"""The chapters on what was learnt from verdicts on other prompts, for the screen and the page."""

from __future__ import annotations

from typing import NamedTuple

from dalign.report import abstaining, calibration
from dalign.report.formats import PlainTable
from dalign.report.tables import Report


class Learnt(NamedTuple):
    """A chapter: its key and title, how to read it, and its tables."""

    key: str
    title: str
    said: str
    tables: list[PlainTable]


def learnt(report: Report) -> list[Learnt]:
    """The chapters that have tables."""
    calibrated = [table for one in report.calibrated for table in one.tables()]
    abstained = [table for one in report.abstained for table in one.tables()]
    found = [
        Learnt("calibrated", "Calibrated selectors", calibration.CAVEAT, calibrated),
        Learnt("abstain", "Abstaining", abstaining.CAVEAT, abstained),
    ]
    return [chapter for chapter in found if chapter.tables]
