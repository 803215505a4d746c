"""Damaged input of every kind: python campaign/fuzz.py [--cases 10000] [--seed 0] [--only TARGET]

Files, command lines and judges' replies are damaged at random, by seed, and read. Each case must end in one of two
ways: accepted, with nothing dropped or changed in silence (an independent reading says what stands there), or refused
with a message of the program's own. A traceback or a silent change is a fault: told with its seed, and exit code 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from holding import Target
from targets import TARGETS

from dalign.errors import DalignError

SHOWN = 3  # faults of a target told in full


def main() -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first case's seed; case i has seed + i")
    parser.add_argument("--only", choices=list(TARGETS), help="this target alone")
    asked = parser.parse_args()
    chosen = {asked.only: (TARGETS[asked.only][0], 1.0)} if asked.only else TARGETS
    total: Counter[str] = Counter()
    print(f"{'target':<22}{'cases':>8}{'accepted':>10}{'refused':>9}{'faults':>8}")
    for name, (target, share) in chosen.items():
        seeds = range(asked.seed, asked.seed + round(asked.cases * share))
        ended: Counter[str] = Counter()
        for seed in seeds:
            ended[_case(name, target, seed, tell=ended["fault"] < SHOWN)] += 1
        total += ended
        print(f"{name:<22}{len(seeds):8d}{ended['accepted']:10d}{ended['refused']:9d}{ended['fault']:8d}")
    print(f"{total.total()} cases, {total['fault']} faults")
    return int(total["fault"] > 0)


def _case(name: str, target: Target, seed: int, *, tell: bool) -> str:
    """How one case ended; a fault is told on standard error."""
    told, folder = io.StringIO(), tempfile.TemporaryDirectory()
    try:
        with folder, contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            return "accepted" if target(Random(f"{name}/{seed}"), Path(folder.name)) else "refused"
    except DalignError:
        return "refused"
    except (Exception, SystemExit) as error:  # whatever else is raised is what is looked for
        if isinstance(error, SystemExit) and error.code == 2:
            return "refused"  # argparse's own message
        if tell:
            print(f"--only {name!r} --seed {seed} --cases 1\n{traceback.format_exc()}", file=sys.stderr)
        return "fault"


if __name__ == "__main__":
    sys.exit(main())
