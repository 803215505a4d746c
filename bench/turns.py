"""What the benchmarks share: their options, and cases that take turns, each run in a process of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Runs = dict[str, dict[str, Any]]


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
    parser.add_argument("--rounds", type=int, default=rounds, help="processes of each case, which take turns")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser


def fastest(script: str, asked: argparse.Namespace, shape: str, cases: Sequence[str], *more: str) -> Runs:
    """The fastest run of each case: what its process prints last, a JSON object with ``seconds``."""
    best: Runs = {}
    for _ in range(asked.rounds):
        for case in cases:
            words = [sys.executable, script, "--model", asked.model, "--shapes", shape, "--dtype", asked.dtype]
            words += ["--threads", str(asked.threads), "--case", case, *more]
            done = subprocess.run(words, check=False, capture_output=True)
            if done.returncode:
                raise RuntimeError(f"{case}: exit {done.returncode}\n{done.stderr.decode()}")
            run = json.loads(done.stdout.splitlines()[-1])
            if case not in best or run["seconds"] < best[case]["seconds"]:
                best[case] = run
    return best


def peak() -> float:
    """The largest resident size of this process so far, KiB (Linux).

    Not ``ru_maxrss``: a process begins with what its parent had, and the parent may have loaded the model.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return float(line.split()[1])
