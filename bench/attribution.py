"""Attribution against the published way: python bench/attribution.py --model FOLDER_OR_GGUF [--json FILE]

The published way, after the paper: the adapted model and a second copy of its base, right-padded batches of 4, every
hidden state and all logits, one script for similarities and one for likelihoods. Here it reads the right positions, has
the same attention kernels and threads, and is given the same pairs, so both must agree. Every case has a process of its
own; cases take turns, and the fastest of their runs counts. Memory is the peak above what the imports take.

``bound`` counts layers times tokens, a head as eight layers: what the ratio would be if nothing but those cost time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turns import fastest, options, peak

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

N, LAYER, HEAD_LAYERS, BATCH = 8, 12, 8, 4
CASES = (
    "published similarity",
    "published both",
    "layer",
    "layer, state kept",
    "all layers",
    "all layers + likelihoods",
)
PEER = {"all layers + likelihoods": "published both"}  # all others: "published similarity"
FLAT = ("kl", "ppl_student", "self_certainty")


def main() -> None:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--repeats", type=int, default=2, help="timed runs in each process, after one to warm up")
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_case(asked, asked.shapes[0])))
        return
    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_adapter(asked.model, asked.dtype, Path(folder) / "adapter")
        for shape in asked.shapes:
            figures |= {f"{shape} {case}": f for case, f in measure(asked, shape, f"{folder}/adapter").items()}
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(asked: argparse.Namespace, shape: str, adapter: str) -> dict[str, dict[str, Any]]:
    """All cases of a shape in turns; prints the table."""
    best = fastest(__file__, asked, shape, CASES, "--adapter", adapter, "--repeats", str(asked.repeats))
    figures: dict[str, dict[str, Any]] = {}
    print(f"\n{shape} tokens, N = {N}, {asked.dtype}, {asked.threads} threads")
    print(f"{'case':<28}{'s':>8}{'tokens/s':>10}{'faster':>8}{'bound':>8}{'share':>8}{'memory':>9}{'differs':>10}")
    for case, run in best.items():
        peer = best[PEER.get(case, "published similarity")]
        figure = {
            "seconds": run["seconds"],
            "tokens_per_s": run["tokens"] / run["seconds"],
            "faster": peer["seconds"] / run["seconds"],
            "bound": bound(case, shape, run["depth"]),
            "memory_mib": run["memory_mib"],
            "memory_ratio": run["memory_mib"] / peer["memory_mib"],
            "largest_difference": difference(run, peer),
        }
        figure["share_of_bound"] = figure["faster"] / figure["bound"]
        figures[case] = figure
        print(
            f"{case:<28}{figure['seconds']:8.2f}{figure['tokens_per_s']:10.0f}{figure['faster']:8.2f}"
            f"{figure['bound']:8.2f}{figure['share_of_bound']:8.0%}{figure['memory_ratio']:9.2f}"
            f"{figure['largest_difference']:10.1e}"
        )
    return figures


def bound(case: str, shape: str, depth: int) -> float:
    """Layers times tokens of the peer over those of the case."""
    prompt, response = map(int, shape.split("+"))
    whole, shared = N * (prompt + response), prompt + N * response
    published = 2 * (depth + HEAD_LAYERS) * whole
    work = {
        "published similarity": published,
        "published both": published,
        "layer": 2 * min(LAYER, depth) * shared,
        "layer, state kept": min(LAYER, depth) * shared,
        "all layers": 2 * depth * shared,
        "all layers + likelihoods": depth * shared * 2 + 2 * HEAD_LAYERS * N * response,
    }[case]
    return published * (2 if case in PEER else 1) / work


def difference(run: dict[str, Any], peer: dict[str, Any]) -> float:
    """The largest absolute difference of a score that both have, likelihoods relative to their size."""
    worst = 0.0
    for name, values in run["scores"].items():
        for one, other in zip(values, peer["scores"].get(name, []), strict=False):
            worst = max(worst, abs(one - other) / (1.0 if name.startswith("layer") else max(1.0, abs(other))))
    return worst


def make_adapter(model: str, dtype: str, folder: Path) -> None:
    """A random adapter of the paper's shape: r 32 on queries and values."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=32, lora_alpha=64, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(load(model, dtype), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(str(folder))


def load(model: str, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
    if model.endswith(".gguf"):
        from transformers import GgufConfig

        options |= {"gguf_file": Path(model).name, "quantization_config": GgufConfig(dequantize=True)}
        model = str(Path(model).parent)
    return AutoModelForCausalLM.from_pretrained(model, **options).eval()


def run_case(asked: argparse.Namespace, shape: str) -> dict[str, Any]:
    """Times one case in this process."""
    import torch

    from dalign.attribute import score_pairs

    assert callable(score_pairs)  # its imports belong to what the memory is counted above
    torch.set_num_threads(asked.threads)
    before = peak()
    run, tokens, depth = (published if asked.case.startswith("published") else ours)(asked, shape)
    seconds, scores = [], {}
    for _ in range(asked.repeats + 1):
        start = time.perf_counter()
        scores = run()
        seconds.append(time.perf_counter() - start)
    memory = (peak() - before) / 1024
    return {"seconds": min(seconds[1:]), "tokens": tokens, "depth": depth, "memory_mib": memory, "scores": scores}


Scores = dict[str, list[float]]


def pairs_of(vocab: int, shape: str) -> tuple[list[int], list[list[int]]]:
    """One prompt and N responses of random ids."""
    from random import Random

    rng, (prompt, response) = Random(0), map(int, shape.split("+"))
    draw = lambda count: [rng.randrange(2, vocab) for _ in range(count)]  # noqa: E731
    return draw(prompt), [draw(response) for _ in range(N)]


def ours(asked: argparse.Namespace, shape: str) -> tuple[Callable[[], Scores], int, int]:
    """This project's way: one model, the adapter on and off."""
    import torch

    from dalign.attribute import Pair, score_pairs
    from dalign.models import load_model
    from dalign.specs.model import ModelSpec
    from dalign.specs.sampling import AttributionSpec

    spec = ModelSpec(name="bench", id=asked.model, dtype=asked.dtype, device="cpu")
    loaded = load_model(spec, adapter=asked.adapter)
    prompt, responses = pairs_of(loaded.vocab, shape)
    pairs = [Pair(tuple(prompt), tuple(response)) for response in responses]
    layers = (min(LAYER, loaded.n_layers),) if asked.case.startswith("layer") else None
    flat = FLAT if asked.case.endswith("likelihoods") else ()
    attribution = AttributionSpec(name="bench", layers=layers, flat=flat)
    kept = None
    if asked.case.endswith("kept"):
        with torch.no_grad():
            ids = torch.tensor([pair.prompt_ids + pair.response_ids for pair in pairs])
            states = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
        kept = [torch.stack([layer[i, -1].float() for layer in states]) for i in range(N)]

    def run() -> Scores:
        found = score_pairs(loaded, pairs, attribution, student=kept)
        shown = layers or range(loaded.n_layers + 1)
        scores = {f"layer {k}": [one.layered["similarity"][k] for one in found] for k in shown}
        return scores | {name: [one.flat[name] for one in found] for name in flat}

    return run, N * (len(prompt) + len(responses[0])), loaded.n_layers


def published(asked: argparse.Namespace, shape: str) -> tuple[Callable[[], Scores], int, int]:
    """Two models; a pass of both for similarities, another one for likelihoods."""
    import torch
    from peft import PeftModel

    student = PeftModel.from_pretrained(load(asked.model, asked.dtype), asked.adapter).eval()
    base = load(asked.model, asked.dtype)
    depth = base.config.num_hidden_layers
    prompt, responses = pairs_of(base.config.vocab_size, shape)
    start = len(prompt)
    whole = torch.tensor([prompt + response for response in responses])
    batches = [(whole[i : i + BATCH], torch.ones_like(whole[i : i + BATCH])) for i in range(0, N, BATCH)]

    @torch.no_grad()
    def similarity() -> Scores:
        scores: Scores = {f"layer {k}": [] for k in range(depth + 1)}
        for ids, mask in batches:
            last = mask.sum(-1) - 1
            both = [m(input_ids=ids, attention_mask=mask, output_hidden_states=True) for m in (student, base)]
            rows = torch.arange(len(ids))
            for k, (ours_BTD, theirs_BTD) in enumerate(zip(*(out.hidden_states for out in both), strict=True)):
                pair = (ours_BTD[rows, last].float(), theirs_BTD[rows, last].float())
                scores[f"layer {k}"] += torch.cosine_similarity(*pair, dim=-1).tolist()
        return scores

    @torch.no_grad()
    def likelihood() -> Scores:
        scores: Scores = {name: [] for name in FLAT}
        for ids, mask in batches:
            both = [m(input_ids=ids, attention_mask=mask).logits[:, start - 1 : -1].float() for m in (student, base)]
            p, q = (logits.log_softmax(-1) for logits in both)
            tokens = ids[:, start:, None]
            scores["kl"] += (p.exp() * (p - q)).sum(-1).mean(-1).tolist()
            scores["ppl_student"] += (-p.gather(-1, tokens)[..., 0].mean(-1)).exp().tolist()
            scores["self_certainty"] += (-p.mean(-1) - torch.log(torch.tensor(p.shape[-1]))).mean(-1).tolist()
        return scores

    both = asked.case.endswith("both")
    return (lambda: similarity() | likelihood()) if both else similarity, whole.numel(), depth


if __name__ == "__main__":
    main()
