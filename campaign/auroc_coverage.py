"""How often the intervals of AUROCs hold the truth: python campaign/auroc_coverage.py [--runs 1000]

Simulated evaluations: P prompts with 8 answers each, failures as in ``coverage.py``. A score is a prompt's own level
plus noise, each with variance 1, and more for a failing answer by an amount of the prompt's own around the given shift:
the truth is a normal probability. The within-prompt interval is of the mean over the prompts that have both kinds. A
cell is the share of runs whose interval holds the true value; 93 to 97 is wanted. Where few prompts have both kinds the
intervals are wider on purpose, and hold it more often. Exit code 1 if any cell is below 92.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.report.aurocs import pooled
from dalign.report.intervals import Groups
from dalign.report.metrics import placements, within_prompt_aurocs

PROMPTS = (60, 100, 313)
RATES = (0.05, 0.2, 0.5)
SHIFTS = (0.0, 1.0)
CORRELATION = 0.5
SPREAD = 0.5  # of the shift, from prompt to prompt
N = 8
WANTED = (0.93, 0.97)
TOO_LOW = 0.92

Case = tuple[int, float, float]


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulated evaluations a cell (1000)")
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="these numbers of prompts alone")
    parser.add_argument("--json", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    print(f"{'prompts':>8}{'rate':>7}{'shift':>7}{'both kinds':>12}{'within held':>13}{'pooled held':>13}")
    for (prompts, rate, shift), both, held in cells(asked.runs, asked.prompts):
        print(f"{prompts:8d}{rate:7.2f}{shift:7.1f}{both:12.0f}{100 * held[0]:13.1f}{100 * held[1]:13.1f}", flush=True)
        figures[f"P={prompts} rate={rate} shift={shift}"] = {"both": both, "within": held[0], "pooled": held[1]}
    shares = [row[name] for row in figures.values() for name in ("within", "pooled")]
    low, high = sum(x < WANTED[0] for x in shares), sum(x > WANTED[1] for x in shares)
    print(f"of {len(shares)} cells {low} are below 93 % and {high} above 97 %")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any(x < TOO_LOW for x in shares))


def cells(runs: int, every: Sequence[int]) -> Iterator[tuple[Case, float, tuple[float, float]]]:
    """Each case with the mean number of prompts that have both kinds, and the shares of runs whose intervals held."""
    for prompts in every:
        groups = Groups(range(prompts), [0])
        for rate in RATES:
            for shift in SHIFTS:
                yield (prompts, rate, shift), *held(groups, rate, shift, runs)


def held(groups: Groups, rate: float, shift: float, runs: int) -> tuple[float, tuple[float, float]]:
    """How many prompts had both kinds, and the shares of ``runs`` in which either interval held its true value."""
    rng = np.random.default_rng([groups.n_prompts, round(1000 * rate), round(10 * shift)])
    within_RP = np.full((runs, groups.n_prompts), np.nan)
    pooled_R2 = np.full((runs, 2), np.nan)
    for run in range(runs):
        event_PN, scores_PN = simulated(rng, groups.n_prompts, rate, shift)
        every = np.ones_like(event_PN)
        within_RP[run] = within_prompt_aurocs(scores_PN, event_PN, every)
        pooled_R2[run] = pooled(placements(scores_PN, event_PN, every), event_PN, groups)[1:]
    low, high = groups.rate_interval(within_RP)
    within = NormalDist().cdf(shift / np.sqrt(2 + SPREAD**2))
    over_all = NormalDist().cdf(shift / np.sqrt(4 + SPREAD**2))
    return float((~np.isnan(within_RP)).sum(axis=1).mean()), (
        _share(low, high, within),
        _share(pooled_R2[:, 0], pooled_R2[:, 1], over_all),
    )


def simulated(
    rng: np.random.Generator, prompts: int, rate: float, shift: float
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Failures and scores of one evaluation, both ``(P, N)``."""
    scale = (1 - CORRELATION) / CORRELATION
    p_P = rng.beta(rate * scale, (1 - rate) * scale, size=prompts)
    event_PN = rng.random((prompts, N)) < p_P[:, None]
    level_P, more_P = rng.normal(size=prompts), rng.normal(shift, SPREAD, size=prompts)
    return event_PN, level_P[:, None] + event_PN * more_P[:, None] + rng.normal(size=event_PN.shape)


def _share(low: np.ndarray, high: np.ndarray, truth: float) -> float:  # type: ignore[type-arg]
    """Of the intervals that there are, those that hold ``truth``."""
    known = ~np.isnan(low)
    return float(((low <= truth) & (truth <= high))[known].mean())


if __name__ == "__main__":
    sys.exit(main())
