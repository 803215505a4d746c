"""Reads a run's evaluations and tells what they say: results.json, results.csv, index.html, and a screen.

Baselines that look at verdicts (oracle, majority, best layer on the test labels) live here alone, and are marked.
"""

from dalign.report.build import build_report
from dalign.report.screen import print_summary, summary_text
from dalign.report.tables import Report
from dalign.report.write import ReportPaths, write_report

__all__ = ["Report", "ReportPaths", "build_report", "print_summary", "summary_text", "write_report"]
