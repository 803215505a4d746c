"""How long a command takes before it computes: python bench/startup.py [--json FILE] [--repeats N]

Peers, measured in the same run: an empty Python, the import of Hydra alone, and the import of torch, which the commands
here do without. Each figure is the fastest of N runs, in seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES: dict[str, list[str]] = {
    "dalign --help": ["-m", "dalign.cli", "--help"],
    "train.py --cfg job": [str(ROOT / "train.py"), "--cfg", "job"],
    "train.py, two faults told": [str(ROOT / "train.py"), "stage=distill", "model=toi", "model.lora.r=eight"],
    "peer: python": ["-c", "pass"],
    "peer: import hydra": ["-c", "import hydra"],
    "peer: import torch": ["-c", "import torch"],
}


def seconds(words: list[str], repeats: int) -> float:
    """The fastest of ``repeats`` runs, from a folder that is not the checkout."""
    times = []
    with tempfile.TemporaryDirectory() as elsewhere:
        for _ in range(repeats):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=elsewhere, check=False, capture_output=True)
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    figures = {name: {"seconds": round(seconds(words, asked.repeats), 3)} for name, words in CASES.items()}
    width = max(map(len, figures))
    for name, figure in figures.items():
        print(f"{name:<{width}}  {figure['seconds']:7.3f} s")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
