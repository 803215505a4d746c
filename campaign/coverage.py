"""How often the report's 95 % intervals hold the truth: python campaign/coverage.py [--runs 1000] [--json FILE]

Simulated evaluations: P prompts, each with a failure rate of its own (beta-distributed around the mean, so that two
answers to one prompt have the given correlation), 8 answers each. Two intervals are tried on each: of the rate of one
answer, and of the change that a selector makes, which takes a failing answer less often than chance, by --fall (a
third). A cell of the table is the share of runs whose interval holds the true value; 93 to 97 is wanted.

Beside it stands the share held by one who knows more and keeps a promise at either end, to be wrong in 2.5 % of runs at
most: of the rate, all but the mean itself is known, and the number of failing answers is gone by; of the change, all
but how often a prompt rises (the chosen answer fails, another does not), and the number of rising prompts. Where none
at all is likelier than 2.5 %, the upper end has to lie above the truth even then, and is never wrong: 97.5 % or more
are held. The report's intervals promise 95 % in all, not each end's, and can hold less than that; a cell above 97 is
marked + where the exact share is above 97 too.

Of the rate, a second bound is for one who knows neither mean nor correlation. Prompts may fail whole or not at all:
none fails then in (1 - rate)^P of runs. Where that is more than 2.5 %, an upper end that keeps its promise whatever the
correlation lies above the truth where nothing fails; and if no further failure lowers it, it is never wrong, and 97.5 %
or more are held. Such cells are marked *, and others above 97 with !. The report's upper end is no such one: small
events tell it that the unseen are small too, so that it can be wrong in such cells, and hold less.

Exit code 1 if any cell is below 92: with 1,000 runs a cell moves by a point and a half (--runs, --seed for others).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import betabinom, binom

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.report.intervals import Floats, Groups

PROMPTS = (60, 100, 313, 1000, 2000)
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
CORRELATIONS = (0.3, 0.7)
N = 8
FALL = 1 / 3
WANTED = (0.93, 0.97)
TOO_LOW = 0.92
TAIL = 0.025


class World(NamedTuple):
    """What is simulated: prompts, the mean failure rate, the correlation of a prompt's answers, the selector's fall."""

    prompts: int
    rate: float
    correlation: float
    fall: float

    @property
    def beta(self) -> tuple[float, float]:
        """The parameters of the prompts' own rates."""
        scale = (1 - self.correlation) / self.correlation
        return self.rate * scale, (1 - self.rate) * scale

    @property
    def failing(self) -> Floats:
        """``(N + 1,)``: how likely each number of failing answers to a prompt is."""
        return np.asarray(betabinom.pmf(np.arange(N + 1), N, *self.beta))


class Held(NamedTuple):
    """The share of runs that held the truth; the share that an exact interval holds which knows more; and the least
    that one holds which does not know the correlation and whose upper end no further failure lowers."""

    share: float
    exact: float
    unaware: float

    @property
    def mark(self) -> str:
        """For a share above 97 %: ``+`` where the exact one is above too, else ``*`` where the unaware one is, else
        ``!``."""
        if self.share <= WANTED[1]:
            return " "
        return "+" if self.exact > WANTED[1] else "*" if self.unaware > WANTED[1] else "!"


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulated evaluations a cell (1000)")
    parser.add_argument("--prompts", type=int, nargs="+", default=PROMPTS, help="these numbers of prompts alone")
    parser.add_argument(
        "--fall", type=float, default=FALL, help="how much rarer the selector takes a failing answer (1/3)"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="these rates alone")
    parser.add_argument("--correlations", type=float, nargs="+", default=CORRELATIONS, help="these correlations alone")
    parser.add_argument("--seed", type=int, default=0, help="other runs (0)")
    parser.add_argument("--json", type=Path, help="the figures as JSON")
    asked = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    every: list[Held] = []
    print(f"{'prompts':>8}{'rate':>6}{'correlation':>13}{'rate held':>12}{'exact':>7}{'change held':>14}{'exact':>7}")
    worlds = [World(*x, asked.fall) for x in itertools.product(asked.prompts, asked.rates, asked.correlations)]
    for world, rate, change in cells(asked.runs, worlds, asked.seed):
        told = "".join(f"{100 * x.share:{w}.1f}{x.mark}{100 * x.exact:7.1f}" for x, w in ((rate, 11), (change, 13)))
        print(f"{world.prompts:8d}{world.rate:6.2f}{world.correlation:13.1f}{told}", flush=True)
        name = f"P={world.prompts} rate={world.rate} correlation={world.correlation}"
        figures[name] = {
            "rate": rate.share,
            "rate_exact": rate.exact,
            "rate_unaware": rate.unaware,
            "change": change.share,
            "change_exact": change.exact,
        }
        every += [rate, change]
    low, marks = sum(x.share < WANTED[0] for x in every), "".join(x.mark for x in every).replace(" ", "")
    print(f"of {len(every)} cells {low} are below 93 % and {len(marks)} above 97 %:", end=" ")
    print(f"{marks.count('+')} where the exact share is too (+), {marks.count('*')} where it is for any that")
    print(f"does not know the correlation and that no failure lowers (*), {marks.count('!')} where neither is (!)")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any(x.share < TOO_LOW for x in every))


def cells(runs: int, worlds: Iterable[World], seed: int) -> Iterator[tuple[World, Held, Held]]:
    """Each world with how its two intervals held the truth."""
    for world in worlds:
        of_rate, of_change = held(Groups(range(world.prompts), [seed]), world, runs, seed)
        exact = exact_change(world)
        yield world, Held(of_rate, exact_rate(world), unaware_rate(world)), Held(of_change, exact, exact)


def held(groups: Groups, world: World, runs: int, seed: int) -> tuple[float, float]:
    """The shares of ``runs`` in which the interval of the rate, and of the change, held its true value."""
    rng = np.random.default_rng([world.prompts, round(1000 * world.rate), round(10 * world.correlation), seed])
    mean_RP = rng.binomial(N, rng.beta(*world.beta, size=(runs, world.prompts))) / N
    chosen_RP = (rng.random(mean_RP.shape) < (1 - world.fall) * mean_RP).astype(float)
    low, high = groups.rate_interval(mean_RP)
    of_rate = float(((low <= world.rate) & (world.rate <= high)).mean())
    low, high = groups.difference_interval(chosen_RP - mean_RP)
    change = -world.fall * world.rate
    return of_rate, float(((low <= change) & (change <= high)).mean())


def exact_rate(world: World) -> float:
    """The share that equal tails hold of the number of failing answers in all."""
    return equal_tails(failing_in_all(world))


def unaware_rate(world: World) -> float:
    """The share held, at least, where the upper end is never wrong if prompts that fail whole or not at all may all be
    safe in more than 2.5 % of runs; else that of equal tails."""
    likely_K = failing_in_all(world)
    if (1 - world.rate) ** world.prompts <= TAIL:
        return equal_tails(likely_K)
    return float(likely_K[np.cumsum(likely_K[::-1])[::-1] > TAIL].sum())


def failing_in_all(world: World) -> Floats:
    """``(P N + 1,)``: how likely each number of failing answers to all prompts is."""
    size = N * world.prompts + 1
    spectrum = np.fft.rfft(world.failing, size) ** world.prompts
    return np.asarray(np.fft.irfft(spectrum, size))


def exact_change(world: World) -> float:
    """The share that equal tails hold of the number of prompts that rise."""
    fails_K = np.arange(N + 1) / N
    rises = world.failing @ np.where(fails_K < 1, (1 - world.fall) * fails_K, 0)
    return equal_tails(binom.pmf(np.arange(world.prompts + 1), world.prompts, rises))


def equal_tails(likely_K: Floats) -> float:
    """How likely a count is that lies neither among the lowest 2.5 % nor among the highest, given how likely each count
    is: the share that an interval exact at both ends holds."""
    as_low, as_high = np.cumsum(likely_K), np.cumsum(likely_K[::-1])[::-1]
    return float(likely_K[(as_low > TAIL) & (as_high > TAIL)].sum())


if __name__ == "__main__":
    sys.exit(main())
