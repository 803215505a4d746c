"""How long a command takes before it computes: python bench/startup.py [--json FILE] [--repeats N]

Peers, measured in the same run: an empty Python, the import of Hydra alone, and the import of torch, which the commands
here do without. Each figure is the fastest of N runs, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is run, and the exit code that shows it did what it is timed for.
CASES: dict[str, tuple[int, list[str]]] = {
    "dalign --help": (0, ["-m", "dalign.cli", "--help"]),
    "train.py --cfg job": (0, [str(ROOT / "train.py"), "--cfg", "job"]),
    "train.py, two faults told": (2, [str(ROOT / "train.py"), "stage=distill", "model=toi", "model.lora.r=eight"]),
    "peer: python": (0, ["-c", "pass"]),
    "peer: import hydra": (0, ["-c", "import hydra"]),
    "peer: import torch": (0, ["-c", "import torch"]),
}


def seconds(words: list[str], code: int, repeats: int) -> float:
    """The fastest of ``repeats`` runs, from a folder that is not the checkout. Raises on another exit code."""
    times = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as elsewhere:
        for _ in range(repeats):
            start = time.perf_counter()
            command = [sys.executable, *words]
            done = subprocess.run(command, cwd=elsewhere, env=environment, check=False, capture_output=True, text=True)
            times.append(time.perf_counter() - start)
            if done.returncode != code:
                raise RuntimeError(f"{words}: exit {done.returncode}, {code} was expected\n{done.stderr}")
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    figures = {
        name: {"seconds": round(seconds(words, code, asked.repeats), 3)} for name, (code, words) in CASES.items()
    }
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure['seconds']:7.3f} s")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
