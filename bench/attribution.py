"""Attribution against the published way: python bench/attribution.py --model FOLDER_OR_GGUF [--json FILE]

The published way, after the paper: the adapted model and a second copy of its base, right-padded batches of 4, every
hidden state and all logits, one script for similarities and one for likelihoods. Here it reads the right positions, has
the same attention kernels and threads, and is given the same pairs, so both must agree. Every case has a process of its
own, where it takes turns with its peer, seconds apart, since a machine's speed drifts; ``faster`` is the median over
the turns of the peer's time over the case's, the range beside it. Memory is the peak above what the imports take, in a
process that does the case alone, once.

``bound`` counts layers times tokens, a head as eight layers: what the ratio would be if nothing but those cost time.
``flops`` counts multiplications, attention's too: what it would be if all of them cost the same.
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

from turns import last_line, options, peak, times_faster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

N, LAYER, HEAD_LAYERS, BATCH = 8, 12, 8, 4
SIMILARITY, BOTH = "published similarity", "published both"
CASES = ("layer", "layer, state kept", "all layers", "all layers + likelihoods")
PEER = {case: BOTH if case.endswith("likelihoods") else SIMILARITY for case in CASES}
Scores = dict[str, list[float]]
FLAT = ("kl", "ppl_student", "self_certainty")


def main() -> None:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        print(json.dumps(run_turns(asked) if asked.peer else run_alone(asked)))
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
    alone = {case: _process(asked, shape, adapter, "--case", case) for case in (SIMILARITY, BOTH, *CASES)}
    figures: dict[str, dict[str, Any]] = {}
    print(f"\n{shape} tokens, N = {N}, {asked.dtype}, {asked.threads} threads")
    print(f"{'case':<28}{'s':>8}{'peer s':>8}{'tokens/s':>10}{'faster':>8}{'range':>12}", end="")
    print(f"{'bound':>8}{'flops':>8}{'share':>8}{'memory':>9}{'differs':>10}")
    for case in CASES:
        run, peer = alone[case], alone[PEER[case]]
        turns = _process(asked, shape, adapter, "--case", case, "--peer", PEER[case])
        faster, least, most = times_faster(turns["own"], turns["peer"])
        seconds, peer_seconds = min(turns["own"]), min(turns["peer"])
        figure = {
            "seconds": seconds,
            "peer_seconds": peer_seconds,
            "tokens_per_s": run["tokens"] / seconds,
            "faster": faster,
            "range": [least, most],
            "bound": bound(case, shape, run["sizes"]),
            "bound_flops": bound(case, shape, run["sizes"], flops=True),
            "memory_mib": run["memory_mib"],
            "memory_ratio": run["memory_mib"] / peer["memory_mib"],
            "largest_difference": difference(run, peer),
        }
        figure["share_of_bound"] = figure["faster"] / figure["bound"]
        figures[case] = figure
        print(
            f"{case:<28}{seconds:8.2f}{peer_seconds:8.2f}{figure['tokens_per_s']:10.0f}{faster:8.2f}"
            f"{f'{least:.2f}-{most:.2f}':>12}{figure['bound']:8.2f}{figure['bound_flops']:8.2f}"
            f"{figure['share_of_bound']:8.0%}{figure['memory_ratio']:9.2f}{figure['largest_difference']:10.1e}"
        )
    return figures


def bound(case: str, shape: str, sizes: dict[str, int], *, flops: bool = False) -> float:
    """What the peer has to compute over what the case has to: layers times tokens, a head as ``HEAD_LAYERS`` of them;
    with ``flops`` the multiplications of layers, attention and head, of which a response's attention to its prompt is
    nothing that sharing the prompt saves."""
    prompt, response = map(int, shape.split("+"))
    whole, shared, answers, depth = N * (prompt + response), prompt + N * response, N * response, sizes["depth"]
    all_pairs = N * _pairs(prompt + response)
    own_pairs = _pairs(prompt) + N * (_pairs(response) + prompt * response)
    layer, pair, head = (sizes[k] for k in ("layer", "pair", "head")) if flops else (1, 0, HEAD_LAYERS)

    def passed(layers: int, tokens: int, pairs: int, heads: int) -> int:
        return layers * (layer * tokens + pair * pairs) + head * heads

    one, all_layers = passed(min(LAYER, depth), shared, own_pairs, 0), passed(depth, shared, own_pairs, 0)
    published = 2 * passed(depth, whole, all_pairs, whole)
    work = {
        "layer": 2 * one,
        "layer, state kept": one,
        "all layers": 2 * all_layers,
        "all layers + likelihoods": 2 * (all_layers + head * answers),
    }[case]
    return published * (2 if PEER[case] == BOTH else 1) / work


def _pairs(tokens: int) -> int:
    """Query and key pairs of causal attention."""
    return tokens * (tokens + 1) // 2


def sizes_of(config: Any) -> dict[str, int]:
    """Depth, and multiplications: a token's in a layer's linear maps, a pair's in its attention, a token's logits'."""
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    of_head = getattr(config, "head_dim", None) or width // heads
    queries, keys = heads * of_head, config.num_key_value_heads * of_head
    layer = 2 * width * (queries + keys) + 3 * width * inner
    return {
        "depth": config.num_hidden_layers,
        "layer": layer,
        "pair": 2 * queries,
        "head": width * config.vocab_size,
    }


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


def _process(asked: argparse.Namespace, shape: str, adapter: str, *more: str) -> dict[str, Any]:
    words = ["--model", asked.model, "--shapes", shape, "--dtype", asked.dtype, "--threads", str(asked.threads)]
    return last_line(__file__, *words, "--rounds", str(asked.rounds), "--adapter", adapter, *more)


def run_alone(asked: argparse.Namespace) -> dict[str, Any]:
    """One case once in this process: its memory and its scores."""
    import torch

    from dalign.attribute import score_pairs

    assert callable(score_pairs)  # its imports belong to what the memory is counted above
    torch.set_num_threads(asked.threads)
    before = peak()
    run, tokens, config = way(asked, asked.case)
    scores = run()
    memory = (peak() - before) / 1024
    return {"tokens": tokens, "sizes": sizes_of(config), "memory_mib": memory, "scores": scores}


def run_turns(asked: argparse.Namespace) -> dict[str, list[float]]:
    """A case and its peer in turns in this process, after one of each to warm up."""
    import torch

    torch.set_num_threads(asked.threads)
    runs = {"peer": way(asked, asked.peer)[0], "own": way(asked, asked.case)[0]}
    seconds: dict[str, list[float]] = {"peer": [], "own": []}
    for turn in range(asked.rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def way(asked: argparse.Namespace, case: str) -> tuple[Callable[[], Scores], int, Any]:
    """What runs a case, the tokens it is asked about, and the model's config."""
    return (published if case.startswith("published") else ours)(asked, case)


def pairs_of(vocab: int, shape: str) -> tuple[list[int], list[list[int]]]:
    """One prompt and N responses of random ids."""
    from random import Random

    rng, (prompt, response) = Random(0), map(int, shape.split("+"))
    draw = lambda count: [rng.randrange(2, vocab) for _ in range(count)]  # noqa: E731
    return draw(prompt), [draw(response) for _ in range(N)]


def ours(asked: argparse.Namespace, case: str) -> tuple[Callable[[], Scores], int, Any]:
    """This project's way: one model, the adapter on and off."""
    import torch

    from dalign.attribute import Pair, score_pairs
    from dalign.models import load_model
    from dalign.specs.model import ModelSpec
    from dalign.specs.sampling import AttributionSpec

    spec = ModelSpec(name="bench", id=asked.model, dtype=asked.dtype, device="cpu")
    loaded = load_model(spec, adapter=asked.adapter)
    prompt, responses = pairs_of(loaded.vocab, asked.shapes[0])
    pairs = [Pair(tuple(prompt), tuple(response)) for response in responses]
    layers = (min(LAYER, loaded.n_layers),) if case.startswith("layer") else None
    flat = FLAT if case.endswith("likelihoods") else ()
    attribution = AttributionSpec(name="bench", layers=layers, flat=flat)
    kept = None
    if case.endswith("kept"):
        with torch.no_grad():
            ids = torch.tensor([pair.prompt_ids + pair.response_ids for pair in pairs])
            states = loaded.model(input_ids=ids, output_hidden_states=True).hidden_states
        kept = [torch.stack([layer[i, -1].float() for layer in states]) for i in range(N)]

    def run() -> Scores:
        found = score_pairs(loaded, pairs, attribution, student=kept)
        shown = layers or range(loaded.n_layers + 1)
        scores = {f"layer {k}": [one.layered["similarity"][k] for one in found] for k in shown}
        return scores | {name: [one.flat[name] for one in found] for name in flat}

    return run, N * (len(prompt) + len(responses[0])), loaded.config


def published(asked: argparse.Namespace, case: str) -> tuple[Callable[[], Scores], int, Any]:
    """Two models; a pass of both for similarities, another one for likelihoods."""
    import torch
    from peft import PeftModel

    student = PeftModel.from_pretrained(load(asked.model, asked.dtype), asked.adapter).eval()
    base = load(asked.model, asked.dtype)
    depth = base.config.num_hidden_layers
    prompt, responses = pairs_of(base.config.vocab_size, asked.shapes[0])
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

    both = case.endswith("both")
    return (lambda: similarity() | likelihood()) if both else similarity, whole.numel(), base.config


if __name__ == "__main__":
    main()
