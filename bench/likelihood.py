"""What likelihood scores cost beside the models: python bench/likelihood.py [--positions 128] [--vocab 49152]

Two models' logits at some positions to KL, perplexity and self-certainty, all positions at a time and as many as a
CPU's cache holds, in turns on one thread. CPU seconds, the median of the turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dalign.attribute import likelihood

NAMES = ("kl", "ppl_student", "self_certainty")
TURNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=49152)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    in_cache = likelihood.CACHED_FLOATS
    for dtype in (torch.float32, torch.bfloat16):
        logits = [torch.randn(asked.positions, asked.vocab).mul_(3).to(dtype) for _ in range(2)]
        tokens = torch.randint(0, asked.vocab, (asked.positions,))
        seconds: dict[str, list[float]] = {"all at a time": [], "in the cache": []}
        for _ in range(TURNS):
            for times, floats in zip(seconds.values(), (asked.positions * asked.vocab, in_cache), strict=True):
                likelihood.CACHED_FLOATS = floats
                start = time.process_time()
                likelihood.token_scores(*logits, tokens, NAMES, asked.vocab)
                times.append(time.process_time() - start)
        print(f"{dtype}:", ", ".join(f"{name} {1000 * median(times):.0f} ms" for name, times in seconds.items()))


if __name__ == "__main__":
    main()
