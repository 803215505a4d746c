"""GRPO against TRL: python bench/grpo.py --model MODEL [--shapes 4x8+128] [--natural] [--json FILE]

``4x8+128`` is four prompts a step, eight answers to each, of exactly 128 tokens: no token ends one, in either library.
With ``--natural`` answers end where the model ends them, 128 tokens at the latest, which favours whoever lets rows
leave. Both draw from the same model with the same new LoRA on all linear layers, at temperature 1, for the same prompts
in the same order, and learn by the loss ``dapo`` with the same clipping, AdamW, rate and precision, without dropout,
recomputation or KL; the reward is the share of even ids. TRL takes the whole step in one micro-batch, as it is and
padded to multiples of ``--bucket``; dalign goes through its drawer, reward and module under its trainer. Random streams
differ, so rewards are alike only within noise. Needs ``pip install 'dalign[bench]'``.

Every case has a process of its own; cases take turns, and ``faster`` is the median over them of the time of TRL's
fastest way over the case's. The first step is not timed. CPU seconds are those of all threads on their cores: on a
machine with other work, compare these too. Memory is the peak above the imports.
``of bound`` is the share of what the matrix products and attention would take alone, at the rate of a large product
measured in the same run: drawing passes each prompt once and each answer once (2 operations a weight), learning too
(4 a frozen weight, 6 an adapter's), and the head is for answers alone (2 and 4).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from distill import PRODUCTS, products
from grpo_ways import ours, theirs
from turns import fastest, options, peak, rounds_of, times_faster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CASES = ("TRL", "TRL, padded", "dalign")


def main() -> None:
    parser = options(__doc__, rounds=3, shapes=["4x8+128"], shape="prompts x answers + their tokens")
    parser.set_defaults(dtype="float32")
    parser.add_argument("--steps", type=int, default=4, help="the first is not timed (default: 4)")
    parser.add_argument("--bucket", type=int, default=64, help="padding goes to a multiple of it (default: 64)")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--natural", action="store_true", help="answers end where the model ends them")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, help="those to time")
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_case(asked)))
        return
    figures: dict[str, dict[str, Any]] = {}
    for shape in asked.shapes:
        figures |= {f"{shape} {case}": figure for case, figure in measure(asked, shape).items()}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(asked: argparse.Namespace, shape: str) -> dict[str, dict[str, Any]]:
    """All cases of a shape in turns; prints the table."""
    more = [word for name in ("steps", "bucket", "lr") for word in (f"--{name}", str(getattr(asked, name)))]
    more += ["--natural"] if asked.natural else []
    rounds = rounds_of(__file__, asked, shape, [PRODUCTS, *asked.cases], *more)
    rate = fastest(rounds.pop(PRODUCTS))["flop_per_s"]
    best = {case: fastest(runs) for case, runs in rounds.items()}
    peers = [case for case in best if case.startswith("TRL")] or list(best)
    first = min(peers, key=lambda case: best[case]["seconds"])
    print(f"\n{shape}, {asked.dtype}, {asked.threads} threads, {asked.steps - 1} steps timed; products at", end=" ")
    print(f"{rate / 1e9:.0f} GFLOP/s. A step's figures; times against TRL's fastest, {first}:")
    print(f"{'case':<13}{'s':>7}{'draw':>7}{'learn':>7}{'CPU s':>7}{'tokens/s':>10}{'faster':>8}{'CPU':>7}", end="")
    print(f"{'of bound':>10}{'MiB':>7}  rewards; gradient norms")
    for case, run in best.items():
        own, peer = rounds[case], rounds[first]
        run["tokens_per_s"] = run["tokens"] / run["seconds"]
        run["faster"], *run["range"] = times_faster(*([one["seconds"] for one in runs] for runs in (own, peer)))
        run["fewer_cpu_s"], _, _ = times_faster(*([one["cpu_seconds"] for one in runs] for runs in (own, peer)))
        run["share_of_bound"] = run["flop"] / rate / run["seconds"]
        run["memory_ratio"] = run["memory_mib"] / best[first]["memory_mib"]
        times = "".join(f"{run[name]:7.2f}" for name in ("seconds", "draw_s", "learn_s", "cpu_seconds"))
        ratios = (
            f"{run['tokens_per_s']:10.0f}{run['faster']:8.2f}{run['fewer_cpu_s']:7.2f}{run['share_of_bound']:10.0%}"
        )
        print(f"{case:<13}{times}{ratios}{run['memory_mib']:7.0f}", end="")
        print(f"  {_row(run['rewards'])}; {_row(run['grad_norms'])}")
    return best


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def run_case(asked: argparse.Namespace) -> dict[str, Any]:
    """Trains by one case in this process; figures are means over the timed steps."""
    import torch

    torch.set_num_threads(asked.threads)
    if asked.case == PRODUCTS:
        return products(getattr(torch, asked.dtype))
    train = imported(asked.case)
    before = peak()
    prompts, group, longest = (int(n) for n in asked.shapes[0].replace("+", "x").split("x"))
    loaded, texts = prepare(asked, prompts * asked.steps)
    rows, marks = train(asked, loaded, texts, (prompts, group, longest))
    timed, start, end = rows[1:], marks[1], marks[-1]
    asked_ids = [len(loaded.chat.user_ids(text, think=True)) for text in texts[prompts:]]
    length = fmean(row["length"] for row in timed)
    seconds, cpu = ((end[k] - start[k]) / len(timed) for k in (0, 1))
    draw = fmean(row["draw_s"] for row in timed)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "draw_s": draw,
        "learn_s": seconds - draw,
        "tokens": prompts * group * length,
        "flop": flop(loaded, fmean(asked_ids), prompts, group, length),
        "memory_mib": (peak() - before) / 1024,
        "rewards": [row["reward"] for row in rows],
        "losses": [row["loss"] for row in rows],
        "grad_norms": [row["grad_norm"] for row in rows],
    }


def imported(case: str) -> Any:
    """The function of a case, after its imports, which belong to what the memory is counted above."""
    import dalign.train.grpo_fit

    assert dalign.train.grpo_fit
    if not case.startswith("TRL"):
        return ours
    import trl.trainer.grpo_trainer

    assert trl.trainer.grpo_trainer
    return theirs


def prepare(asked: argparse.Namespace, count: int) -> tuple[Any, list[str]]:
    """The model with a new LoRA, of the same tensors in every process, and prompts of the embedded world."""
    import torch

    from dalign.models import LoadedModel, load_model
    from dalign.specs.model import LoraSpec, ModelSpec
    from dalign.toy import World
    from dalign.toy.prompts import TRAIN, draw_prompts

    class Unending(LoadedModel):
        eos_ids = ()

    torch.manual_seed(0)
    lora = LoraSpec(r=16, alpha=32, dropout=0.0, targets="all-linear")
    spec = ModelSpec(name="bench", id=asked.model, dtype=asked.dtype, device="cpu", lora=lora)
    loaded = load_model(spec, new_lora=True)
    if loaded.tokenizer.pad_token_id is None:
        loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
    if not asked.natural:
        loaded.__class__ = Unending
        loaded.model.generation_config.eos_token_id = None
    return loaded, [prompt.text for prompt, _ in draw_prompts(World(0), TRAIN)[:count]]


def flop(loaded: Any, prompt: float, prompts: int, group: int, length: float) -> float:
    """Operations of a step's products that it cannot do without, answers of the mean ``length``."""
    config, model = loaded.config, loaded.model.get_base_model()
    frozen = sum(m.base_layer.weight.numel() for m in model.modules() if hasattr(m, "base_layer"))
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = model.get_output_embeddings().weight.numel()
    width = config.num_hidden_layers * model.model.layers[0].self_attn.o_proj.in_features
    answers = prompts * group * length
    tokens = prompts * prompt + answers
    pairs = prompts * prompt**2 / 2 + answers * (prompt + length / 2)
    return float(tokens * (6 * frozen + 8 * adapter) + answers * 6 * head + 16 * width * pairs)


if __name__ == "__main__":
    main()
