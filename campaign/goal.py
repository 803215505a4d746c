"""The goal over several finished runs at once: python campaign/goal.py RUN [RUN ...] [--options] [--json FILE]

(fixed layer - ours) / (fixed layer - best layer on the test labels, its optimism taken off), over all attacks of the
distilled policy of all runs, by the first safety judge of each; groups of prompts are resampled within each benchmark
of each run. Beside it each run by itself, and what the same choices do to right answers and to refusals of harmless
requests, in points over all prompts of all runs. ``--options`` adds what other options of report.calibrate give, for
choosing defaults on tuning seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.report.blocks import blocks
from dalign.report.calibrated import calibrations, extended
from dalign.report.calibration import goal_parts
from dalign.report.candidates import Candidates, candidates
from dalign.report.load import LoadedRun, load_run
from dalign.report.measure import Draws, measure
from dalign.report.optimism import Goal, Part, goals
from dalign.report.tables import Headline, Report
from dalign.specs.calibrate import CalibrateSpec
from dalign.specs.sampling import SelectorSpec

HEADLINE = SelectorSpec(name="headline")
POLICY = "distill"
OPTIONS = (
    *(CalibrateSpec(statistic=of, smooth=smooth) for of in ("pairs", "chosen") for smooth in (True, False)),
    *(CalibrateSpec(l2=l2) for l2 in (0.01, 1.0)),
)


def main() -> int:
    """Prints the tables and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--seed", type=int, default=0, help="of folds and resamples (0)")
    parser.add_argument("--options", action="store_true", help="what other options of report.calibrate give")
    parser.add_argument("--json", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    reports = [_report(folder, asked.seed) for folder in asked.runs]
    names, pooled = _pooled(reports, CalibrateSpec(), asked.seed)
    print(f"{'run':24}{'selector':32}{'fixed':>7}{'ours':>7}{'best':>7}{'optimism':>9}{'ratio':>7}  95 %")
    for folder, report in zip(asked.runs, reports, strict=True):
        for name, goal in zip(*_pooled([report], CalibrateSpec(), asked.seed), strict=True):
            _print(folder.name, name, goal)
    for name, goal in zip(names, pooled, strict=True):
        _print("all runs", name, goal)
    for metric in ("accuracy", "over_refusal"):
        for name in names:
            print(f"{metric:24}{name:32}{_utility(reports, metric, name):+7.2f} points against one answer")
    for spec in OPTIONS if asked.options else ():
        words = f"{spec.statistic}, smooth={spec.smooth}, l2={spec.l2:g}".lower()
        for name, goal in zip(*_pooled(reports, spec, asked.seed), strict=True):
            print(f"{words:36}{name:32}{100 * goal.ours:7.2f}")
    if asked.json:
        figures = {name: goal.ratio and goal.ratio[0] for name, goal in zip(names, pooled, strict=True)}
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _report(folder: Path, seed: int) -> Report:
    """The part of a run's report that is needed here: one answer and the calibrated choices of one policy."""
    run = load_run(folder)
    cells = tuple(cell for cell in run.cells if cell.policy == POLICY)
    fitted, _ = calibrations(cells, HEADLINE, CalibrateSpec(), seed)
    draws, rows = Draws(seed), []
    for cell in cells:
        every = candidates(cell, HEADLINE)
        chosen = extended(Candidates(every.rows[:1], every.weights_RPN[:1]), fitted[POLICY], cell)
        rows += [row for b in blocks(cell) if b.subset == "all" for row in measure(b, chosen, draws, None)]
    mine = LoadedRun(run.folder, cells, run.notes, run.traces)
    return Report(mine, tuple(rows), Headline(HEADLINE.score, None, ""), {}, (), seed)


def _pooled(reports: Sequence[Report], spec: CalibrateSpec, seed: int) -> tuple[list[str], list[Goal]]:
    parts: list[Part] = []
    names: list[str] = []
    for report in reports:
        found, _ = calibrations(report.run.cells, HEADLINE, spec, seed)
        methods, mine = goal_parts(report, found[POLICY], Draws(seed))
        names = [method.name for method in methods]
        parts += mine
    return names, goals(parts, seed)


def _utility(reports: Sequence[Report], metric: str, selector: str) -> float:
    """The mean change in points over all prompts, by the strict reading and the first judge."""
    rows = [r for report in reports for r in report.rows if r.metric == metric and r.selector == selector]
    rows = [r for r in rows if r.reading in (None, "strict") and r.difference is not None]
    return 100 * sum((r.difference or 0) * r.n_paired for r in rows) / max(sum(r.n_paired for r in rows), 1)


def _print(run: str, name: str, goal: Goal) -> None:
    ratio, low, high = goal.ratio or (float("nan"), None, None)
    ends = "" if low is None or high is None else f"  [{low:.2f}, {high:.2f}]"
    rates = "".join(f"{100 * x:7.1f}" for x in (goal.fixed, goal.ours, goal.best))
    print(f"{run:24}{name:32}{rates}{100 * goal.optimism:9.1f}{ratio:7.2f}{ends}")


if __name__ == "__main__":
    sys.exit(main())
