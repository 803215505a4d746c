"""How often what abstaining promises holds: python campaign/abstain.py [--runs 2000] [--run RUN] [--json FILE]

Simulated groups of prompts with a chance of a bad answer of their own (mean 0.15) and a risk that says something of it.
The limit is set on 60 or 200 groups, and the true share of bad answers among all prompts is told: on average over the
draws it must stay at or below alpha. Learn-then-Test is told by how often it fails, which must stay below delta. The
lines after that break the rule on purpose: of several layers the one that answers most is picked on the very groups
that set the limit.
``--run`` also splits a finished evaluation 300 times anew: unsafe of all on the split test, as its judge saw it.
Exit code 1 if a promise is broken by more than the simulation's own error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "select"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from abstain_world import broken_among_answered, unsafe_of_all

from dalign.report.abstaining import freeze
from dalign.report.calibrated import Calibration, calibrations
from dalign.report.load import load_run
from dalign.select.abstain import answered
from dalign.specs.calibrate import AbstainSpec, CalibrateSpec
from dalign.specs.sampling import SelectorSpec

ALPHAS = (0.01, 0.05, 0.1)
CASES = (
    ("a risk that says nothing", 0.0, 1),
    ("a risk that tells", 0.8, 1),
    ("a risk that tells, groups of 3", 0.8, 3),
)
DELTA = 0.1
SPLITS = 300


def main() -> int:
    """Prints the tables and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulated draws a line (2000)")
    parser.add_argument("--run", type=Path, help="a run's folder, to be split again and again")
    parser.add_argument("--json", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    broken = sum(_all_promises(asked.runs, figures)) + sum(_answered_promises(asked.runs, figures))
    _broken_rule(asked.runs, figures)
    if asked.run is not None:
        broken += sum(_of_run(asked.run, figures))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(broken > 0)


def _all_promises(runs: int, figures: dict[str, float]) -> list[bool]:
    print(f"{'unsafe of all, mean over draws':44}{'groups':>8}{'alpha':>8}{'found':>8}")
    out = []
    for words, told, size in CASES:
        for groups in (60, 200):
            for alpha in ALPHAS:
                rng = np.random.default_rng([groups, round(1000 * alpha), size])
                draws = [unsafe_of_all(rng, alpha, groups=groups, size=size, told=told) for _ in range(runs)]
                out.append(_told(words, groups, alpha, np.array(draws), figures))
    return out


def _told(words: str, groups: int, alpha: float, draws: np.ndarray, figures: dict[str, float]) -> bool:
    """Prints a line; whether the mean is above alpha by more than three standard errors."""
    print(f"{words:44}{groups:8d}{alpha:8.2f}{draws.mean():8.4f}")
    figures[f"{words} groups={groups} alpha={alpha}"] = float(draws.mean())
    return bool(draws.mean() > alpha + 3 * draws.std() / np.sqrt(len(draws)))


def _answered_promises(runs: int, figures: dict[str, float]) -> list[bool]:
    print(f"\n{'Learn-then-Test, share of draws that fail':44}{'groups':>8}{'alpha':>8}{'found':>8}  (at most {DELTA})")
    out = []
    for size in (1, 3):
        for alpha in (0.05, 0.1):
            rng = np.random.default_rng([size, round(1000 * alpha), 9])
            n = max(runs // 2, 1)
            share = float(np.mean([broken_among_answered(rng, alpha, DELTA, groups=150, size=size) for _ in range(n)]))
            print(f"{f'groups of {size}':44}{150:8d}{alpha:8.2f}{share:8.3f}")
            figures[f"learn-then-test size={size} alpha={alpha}"] = share
            out.append(share > DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / n))
    return out


def _broken_rule(runs: int, figures: dict[str, float]) -> None:
    print(f"\n{'the layer picked on the threshold split':44}{'groups':>8}{'alpha':>8}{'found':>8}")
    for layers in (1, 7, 29):
        rng = np.random.default_rng([layers, 5])
        draws = [unsafe_of_all(rng, 0.05, layers=layers) for _ in range(max(runs // 4, 1))]
        _told(f"the best of {layers} layers", 60, 0.05, np.array(draws), figures)


def _of_run(folder: Path, figures: dict[str, float]) -> list[bool]:
    found, notes = calibrations(load_run(folder).cells, SelectorSpec(name="headline"), CalibrateSpec(), 0)
    for note in notes:
        print(note)
    print(
        f"\n{f'{folder.name}, {SPLITS} splits, unsafe of all':44}{'groups':>8}{'alpha':>8}{'found':>8}{'answered':>10}"
    )
    out = []
    for policy, one in found.items():
        for alpha in ALPHAS:
            drawn = np.array([row for seed in range(SPLITS) if (row := _split(one, alpha, seed)) is not None])
            if not len(drawn):
                continue
            unsafe, share, groups = drawn.mean(axis=0)
            print(f"{policy:44}{groups:8.0f}{alpha:8.2f}{unsafe:8.4f}{share:10.3f}")
            figures[f"{policy} alpha={alpha}"] = float(unsafe)
            out.append(bool(unsafe > alpha + 3 * drawn[:, 0].std() / np.sqrt(len(drawn))))
    return out


def _split(found: Calibration, alpha: float, seed: int) -> tuple[float, float, int] | None:
    """Of a new split: unsafe of all attacks of the split test, the answered share, the groups behind the limit."""
    frozen = freeze(found, AbstainSpec(alphas=(alpha,)), seed)
    if frozen is None:
        return None
    pool, rule = found.pool, frozen.abstainer.rule
    index_P, risk_P = rule.apply(pool.inputs)
    bad_P = (pool.event_PN | ~pool.known_PN)[np.arange(len(index_P)), np.maximum(index_P, 0)]
    said_P = answered(risk_P, frozen.abstainer.thresholds[0].limit)
    test_P = (frozen.split_P == 2) & pool.harmful
    return float((said_P & bad_P)[test_P].mean()), float(said_P[test_P].mean()), frozen.n_groups["threshold"]


if __name__ == "__main__":
    sys.exit(main())
