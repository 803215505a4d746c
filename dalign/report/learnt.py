"""The chapters on what was learnt from verdicts on other prompts, for the screen and the page."""

from __future__ import annotations

from dalign.report import abstaining, calibration
from dalign.report.formats import PlainTable
from dalign.report.tables import Report

Chapter = tuple[str, str, list[PlainTable]]


def learnt(report: Report) -> list[Chapter]:
    """Title, how to read it, and tables, of each chapter that has any."""
    calibrated = [table for one in report.calibrated for table in one.tables()]
    abstained = [table for one in report.abstained for table in one.tables()]
    found = [
        ("Calibrated selectors", calibration.CAVEAT, calibrated),
        ("Abstaining", abstaining.CAVEAT, abstained),
    ]
    return [chapter for chapter in found if chapter[2]]
