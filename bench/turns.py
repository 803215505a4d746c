"""What the benchmarks share: their options, processes of their own, and cases that take turns.

A machine's speed drifts while a benchmark runs, so a case is compared with what its peer took in the same turn, and the
median over the turns counts: the fastest runs of the two may be of different minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

Run = dict[str, Any]
Rounds = dict[str, list[Run]]  # of each case, the run of each round


def options(
    description: str | None,
    rounds: int,
    *,
    shapes: Sequence[str] = ("64+384", "640+192"),
    shape: str = "prompt+response tokens",
) -> argparse.ArgumentParser:
    """The parser of a benchmark on a model; ``--case`` is for the processes it starts itself.

    ``shapes`` are the defaults, ``shape`` says how one is written.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with safetensors, or a .gguf file")
    parser.add_argument("--shapes", nargs="+", default=list(shapes), help=shape)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each case")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def last_line(script: str, *words: str) -> Run:
    """What a process of ``script`` prints last, a JSON object. Raises ``RuntimeError`` with its errors if it fails."""
    done = subprocess.run([sys.executable, script, *words], check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stderr.decode()}")
    found: Run = json.loads(done.stdout.splitlines()[-1])
    return found


def rounds_of(script: str, asked: argparse.Namespace, shape: str, cases: Sequence[str], *more: str) -> Rounds:
    """The runs of the cases, in turns, each in a process of its own and with its ``seconds``."""
    words = ["--model", asked.model, "--shapes", shape, "--dtype", asked.dtype, "--threads", str(asked.threads), *more]
    found: Rounds = {case: [] for case in cases}
    for _ in range(asked.rounds):
        for case in cases:
            found[case].append(last_line(script, *words, "--case", case))
    return found


def fastest(runs: Sequence[Run]) -> Run:
    """The run that took the least time."""
    return min(runs, key=lambda run: run["seconds"])


def times_faster(own: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """How many times less the case took than its peer, of the seconds of each turn: the median, the least, the most."""
    ratios = [theirs / ours for ours, theirs in zip(own, peer, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def peak() -> float:
    """The largest resident size of this process so far, KiB (Linux).

    Not ``ru_maxrss``: a process begins with what its parent had, and the parent may have loaded the model.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return float(line.split()[1])
