"""Best-of-N sampling against transformers: python bench/sampling.py --model FOLDER_OR_GGUF [--json FILE]

8 prompts (``--prompts``), 8 samples each, at temperature 0.7. How long each response is was drawn beforehand, the same
for every way: real models end most of their answers early and a few late. ``generate`` gets each prompt N times, pads,
and decodes until the slowest ends; ``--ways "generate, no cache"`` is the published way, the same without a key-value
cache, and takes many minutes. ``generate_batch`` is transformers' continuous batching. Every way has a process of its
own; they take turns, and the ratio to ``generate`` is the median over the rounds.
Tokens are those of the responses; what is computed for rows that have ended counts for nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from turns import fastest, options, rounds_of, times_faster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

N = 8
WAYS = ("generate", "generate_batch", "dalign")
UNCACHED = "generate, no cache"


def main() -> None:
    parser = options(__doc__, rounds=2)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=[*WAYS, UNCACHED], help="those to time")
    parser.add_argument("--prompts", type=int, default=8, help="fewer for the way without a cache (default: 8)")
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_way(asked, asked.shapes[0])))
        return
    figures: dict[str, dict[str, float]] = {}
    for shape in asked.shapes:
        figures |= {f"{shape} {way}": figure for way, figure in measure(asked, shape).items()}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(asked: argparse.Namespace, shape: str) -> dict[str, dict[str, float]]:
    """All ways for a shape, in turns; prints the table."""
    rounds = rounds_of(__file__, asked, shape, asked.ways, "--prompts", str(asked.prompts))
    best = {way: fastest(runs) for way, runs in rounds.items()}
    print(f"\n{shape} tokens, {asked.prompts} prompts, N = {N}, {asked.dtype}, {asked.threads} threads")
    print(f"{'way':<22}{'s':>8}{'tokens':>9}{'tokens/s':>10}{'against generate':>18}")
    for way, run in best.items():
        run["tokens_per_s"] = run["tokens"] / run["seconds"]
        ratio = f"{'–':>18}"
        if "generate" in rounds:
            own, peer = ([one["seconds"] for one in rounds[name]] for name in (way, "generate"))
            run["against_generate"], _, _ = times_faster(own, peer)
            ratio = f"{run['against_generate']:18.2f}"
        print(f"{way:<22}{run['seconds']:8.1f}{run['tokens']:9.0f}{run['tokens_per_s']:10.0f}{ratio}")
    return best


def lengths(longest: int, count: int) -> list[int]:
    """The responses' lengths: log-normal around 0.4 of the longest allowed, one in ten cut off there."""
    rng = Random(1)
    return [max(1, min(longest, round(0.4 * longest * rng.lognormvariate(0.0, 0.7)))) for _ in range(count)]


def run_way(asked: argparse.Namespace, shape: str) -> dict[str, float]:
    """Times one way in this process, after a short run to warm up."""
    import torch

    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    size, longest = map(int, shape.split("+"))
    rng = Random(0)
    loaded = load(asked)
    prompts = [[rng.randrange(2, loaded.vocab) for _ in range(size)] for _ in range(asked.prompts)]
    rows = [prompt for prompt in prompts for _ in range(N)]
    ends = lengths(longest, len(rows))
    draw = {"dalign": dalign_way, "generate_batch": batch_way}.get(asked.case, generate_way)(asked, loaded)
    draw(rows, [4] * len(rows))
    start = time.perf_counter()
    drawn = draw(rows, ends)
    seconds = time.perf_counter() - start
    if drawn != sum(ends):
        raise RuntimeError(f"{asked.case}: {drawn} tokens drawn, {sum(ends)} were asked for")
    return {"seconds": seconds, "tokens": float(drawn)}


Draw = Callable[[list[list[int]], list[int]], int]


def load(asked: argparse.Namespace) -> Any:
    """The model with no token that ends a response: its length alone does."""
    from dalign.models import load_model
    from dalign.specs.model import ModelSpec

    loaded = load_model(ModelSpec(name="bench", id=asked.model, dtype=asked.dtype, device="cpu"))
    loaded.model.generation_config.eos_token_id = None
    return loaded


def dalign_way(asked: argparse.Namespace, loaded: Any) -> Draw:
    import torch

    from dalign.sample import Request
    from dalign.sample.decoding import Decoding
    from dalign.specs.sampling import SamplerSpec, TransformersEngine

    def draw(rows: list[list[int]], ends: list[int]) -> int:
        spec = SamplerSpec(name="bench", n=N, max_new_tokens=max(ends))
        requests = [Request(tuple(row), i) for i, row in enumerate(rows)]
        decoding = Decoding(loaded, spec, TransformersEngine(), requests, ends)
        decoding.eos = set()
        with torch.no_grad():
            return sum(len(one.ids) for one in decoding.run())

    return draw


def generate_way(asked: argparse.Namespace, loaded: Any) -> Draw:
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Ended(StoppingCriteria):
        def __init__(self, start: int, ends: list[int]) -> None:
            self.start, self.ends = start, torch.tensor(ends)

        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return self.ends <= input_ids.shape[1] - self.start

    def draw(rows: list[list[int]], ends: list[int]) -> int:
        ids = torch.tensor(rows)
        options = {"do_sample": True, "temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": max(ends)}
        stop = StoppingCriteriaList([Ended(ids.shape[1], ends)])
        cached = asked.case != UNCACHED
        out = loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            stopping_criteria=stop,
            pad_token_id=0,
            use_cache=cached,
            **options,
        )
        return sum(min(end, out.shape[1] - ids.shape[1]) for end in ends)

    return draw


def batch_way(asked: argparse.Namespace, loaded: Any) -> Draw:
    from transformers import GenerationConfig

    def draw(rows: list[list[int]], ends: list[int]) -> int:
        config = GenerationConfig(
            do_sample=True,
            temperature=0.7,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max(ends),
            eos_token_id=-1,
            pad_token_id=0,
        )
        manager = loaded.model.init_continuous_batching(generation_config=config)
        manager.start()
        try:
            for row, end in zip(rows, ends, strict=True):
                manager.add_request(row, max_new_tokens=end)
            count = 0
            for _ in rows:
                count += len(manager.get_result(timeout=3600).generated_tokens)
        finally:
            manager.stop(block=True)
        return count

    return draw


if __name__ == "__main__":
    main()
