"""Writes ``report/`` of a run: results.json, results.csv, index.html, and what some runs have, each all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dalign.files import write_json, write_text
from dalign.report.build import EVERYTHING, build_report
from dalign.report.figures import draw_figures
from dalign.report.html import page
from dalign.report.rl_tables import rl_csv, rl_markdown
from dalign.report.samples import embed
from dalign.report.tables import Report, csv_text
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

SCHEMA = 1


@dataclass(frozen=True)
class ReportPaths:
    """Where the report lies, and the report itself, for the screen."""

    results_json: Path
    results_csv: Path
    index_html: Path
    report: Report


def write_report(
    run_folder: Path,
    *,
    headline: SelectorSpec,
    seed: int,
    asked: ReportSpec = EVERYTHING,
    progress: Callable[[int, int], None] | None = None,
) -> ReportPaths:
    """Reports a run's finished evaluations below ``run_folder/report``. The same folder and seed give the same bytes.
    ``asked`` says what the page holds of the samples.

    Raises ``ArtifactError`` where nothing is finished or files contradict one another, ``ConfigError`` for a headline
    that the run has no score for. ``progress(done, total)`` is called after each policy and benchmark.
    """
    report = build_report(run_folder, headline=headline, seed=seed, asked=asked, progress=progress)
    folder = run_folder / "report"
    paths = ReportPaths(folder / "results.json", folder / "results.csv", folder / "index.html", report)
    write_text(paths.index_html, page(report, draw_figures(report), embed(report, headline, asked)))
    rows = [*report.rows, *(worth.row for worth in report.worths), *report.at_k]
    write_text(paths.results_csv, csv_text(rows))
    write_json(paths.results_json, {"schema": SCHEMA, "rows": [row.to_json() for row in rows]})
    _write_learnt(folder, report)
    if report.changes:
        write_text(folder / "rl.csv", rl_csv(report.changes))
        write_text(folder / "rl.md", rl_markdown(report.changes))
    return paths


def _write_learnt(folder: Path, report: Report) -> None:
    """What was chosen on other folds, and the frozen objects that abstain, where there are any."""
    if calibrated := {one.policy: one.to_json() for one in report.calibrated}:
        write_json(folder / "calibrated.json", {"schema": SCHEMA, "policies": calibrated})
    for one in report.abstained:
        if one.abstainer is not None:
            one.abstainer.save(folder / f"abstain_{one.policy}.json")
