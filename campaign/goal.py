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
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.errors import ArtifactError
from dalign.report.blocks import blocks
from dalign.report.calibrated import ANY, COMBINATION, Calibration, calibrations
from dalign.report.calibration import goal_parts
from dalign.report.load import LoadedRun, load_run
from dalign.report.measure import Draws
from dalign.report.metrics import choice_rates
from dalign.report.optimism import Goal, Part, goals
from dalign.select import uniform_weights
from dalign.specs.calibrate import CalibrateSpec
from dalign.specs.sampling import SelectorSpec

UTILITY = ("accuracy", "over_refusal")
SHOWN = ("calibrated_similarity_argmin", ANY, COMBINATION)
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
    runs = [load_run(folder) for folder in asked.runs]
    names, pooled = _pooled(runs, CalibrateSpec(), asked.seed)
    print(f"{'run':24}{'selector':32}{'fixed':>7}{'ours':>7}{'best':>7}{'optimism':>9}{'ratio':>7}  95 %")
    for run in runs:
        for name, goal in zip(*_pooled([run], CalibrateSpec(), asked.seed), strict=True):
            _print(run.folder.name, name, goal)
    for name, goal in zip(names, pooled, strict=True):
        _print("all runs", name, goal)
    for metric, name, change in _utility(runs, asked.seed):
        print(f"{metric:24}{name:32}{change:+7.2f} points against one answer")
    for spec in OPTIONS if asked.options else ():
        words = f"{spec.statistic}, smooth={spec.smooth}, l2={spec.l2:g}".lower()
        for name, goal in zip(*_pooled(runs, spec, asked.seed), strict=True):
            print(f"{words:36}{name:32}{100 * goal.ours:7.2f}")
    if asked.json:
        figures = {name: goal.ratio and goal.ratio[0] for name, goal in zip(names, pooled, strict=True)}
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _pooled(runs: Sequence[LoadedRun], spec: CalibrateSpec, seed: int) -> tuple[list[str], list[Goal]]:
    parts: list[Part] = []
    names: list[str] = []
    for run in runs:
        methods, mine = goal_parts(_calibration(run, spec, seed), Draws(seed))
        names = [method.name for method in methods]
        parts += mine
    return names, goals(parts, seed)


def _calibration(run: LoadedRun, spec: CalibrateSpec, seed: int) -> Calibration:
    found, notes = calibrations([cell for cell in run.cells if cell.policy == POLICY], HEADLINE, spec, seed)
    if POLICY not in found:
        raise ArtifactError(" ".join([f"{run.folder}: nothing to calibrate.", *notes]))
    return found[POLICY]


def _utility(runs: Sequence[LoadedRun], seed: int) -> Iterator[tuple[str, str, float]]:
    """Metric, selector, and the mean change against one answer, in points over all prompts, by the first reading."""
    changes: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        found = _calibration(run, CalibrateSpec(), seed)
        for block in (b for cell in found.pool.cells for b in blocks(cell) if b.subset == "all"):
            if block.metric in UTILITY and block.reading in (None, "strict"):
                for method in (m for m in found.methods if m.name in SHOWN):
                    both = [uniform_weights(np.ones_like(block.cell.finished_PN)), found.weights(method, block.cell)]
                    rates = choice_rates(np.stack(both)[:, block.index_P], block.amount_PN, block.scored_PN).value
                    gone = (rates[1] - rates[0])[~np.isnan(rates).any(axis=0)]
                    changes.setdefault((block.metric, method.name), []).extend(gone.tolist())
    for (metric, name), values in sorted(changes.items()):
        yield metric, name, 100 * float(np.mean(values))


def _print(run: str, name: str, goal: Goal) -> None:
    ratio, low, high = goal.ratio or (float("nan"), None, None)
    ends = "" if low is None or high is None else f"  [{low:.2f}, {high:.2f}]"
    rates = "".join(f"{100 * x:7.1f}" for x in (goal.fixed, goal.ours, goal.best))
    print(f"{run:24}{name:32}{rates}{100 * goal.optimism:9.1f}{ratio:7.2f}{ends}")


if __name__ == "__main__":
    sys.exit(main())
