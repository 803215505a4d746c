"""Distillation against TRL: python bench/distill.py --model MODEL --traces FILE [--shapes 4x4] [--json FILE]

The student learns the first kept traces of FILE (a run's ``traces.parquet``) once, through LoRA on all linear layers:
every case has the same first tensors, examples in the same steps, AdamW, precision (adapters in float32, products in
the model's) and loss, the mean over a step's completion tokens. ``4x4`` is TRL's micro-batch times its accumulation;
dalign gets as many examples a step and cuts them itself. TRL runs without recomputation, with its loss in chunks: as
it is; padded to multiples of 128; so, and with each step's examples by length, which it does not do by itself; and in
micro-batches of one, which need no padding. dalign runs as configured, and with one example a micro-batch
(``stage.micro_batch_tokens=1 stage.bucket=16``). Needs ``pip install 'dalign[bench]'``. Every case has a process of its
own; cases take turns, and ``faster`` is the median over them of the time of TRL's fastest way over the case's.

Tokens are those of the examples: padding counts for nothing. CPU seconds are those that all threads spent on their
cores: on a machine with other work, compare these. ``of bound`` is the share of what the matrix products would
take alone, at the rate of a large one measured in the same run. Memory is the peak above the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turns import fastest, options, peak, rounds_of, times_faster

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CASES = ("TRL", "TRL, padded", "TRL, by length", "TRL, one by one", "dalign", "dalign, one by one")
ONE = "one by one"
PRODUCTS = "products"
SIZE = 2048  # of the products that the bound is measured by


def main() -> None:
    parser = options(__doc__, rounds=2, shapes=["4x4"], shape="examples of a micro-batch x micro-batches of a step")
    parser.add_argument("--traces", type=Path, required=True, help="traces.parquet of a run's stage=traces")
    parser.add_argument("--examples", type=int, default=64, help="those that fit 1,536 tokens (default: 64)")
    parser.add_argument("--bucket", type=int, default=128, help="padding goes to a multiple of it (default: 128)")
    parser.add_argument("--lr", type=float, default=1e-3)
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
    named = {name: str(getattr(asked, name)) for name in ("traces", "examples", "bucket", "lr")}
    more = [word for name, value in named.items() for word in (f"--{name}", value)]
    rounds = rounds_of(__file__, asked, shape, [PRODUCTS, *asked.cases], *more)
    rate = fastest(rounds.pop(PRODUCTS))["flop_per_s"]
    best = {case: fastest(runs) for case, runs in rounds.items()}
    peers = [case for case in best if case.startswith("TRL")] or list(best)
    first = min(peers, key=lambda case: best[case]["seconds"])
    peer, seconds = best[first], {case: [run["seconds"] for run in runs] for case, runs in rounds.items()}
    some = next(iter(best.values()))
    print(f"\n{shape} of {asked.examples} examples, {asked.dtype}, {asked.threads} threads: {some['tokens']} tokens,")
    print(f"{some['completion_tokens']} of completions; products at {rate / 1e9:.0f} GFLOP/s. Against TRL's fastest:")
    print(f"{'case':<20}{'s':>7}{'CPU s':>8}{'tokens/s':>10}{'faster':>8}{'of bound':>10}{'memory':>8}{'loss off':>10}")
    for case, run in best.items():
        run["tokens_per_s"] = run["tokens"] / run["seconds"]
        run["faster"], _, _ = times_faster(seconds[case], seconds[first])
        run["share_of_bound"] = run["flop"] / rate / run["seconds"]
        run["memory_ratio"] = run["memory_mib"] / peer["memory_mib"]
        run["loss_off"] = max(abs(a - b) for a, b in zip(run["losses"], peer["losses"], strict=True))
        print(
            f"{case:<20}{run['seconds']:7.1f}{run['cpu_seconds']:8.1f}{run['tokens_per_s']:10.0f}{run['faster']:8.2f}"
            f"{run['share_of_bound']:10.0%}{run['memory_ratio']:8.2f}{run['loss_off']:10.1e}"
        )
    return best


def run_case(asked: argparse.Namespace) -> dict[str, Any]:
    """Trains by one case in this process: seconds from the first step's begin to the last one's end."""
    import torch

    torch.set_num_threads(asked.threads)
    if asked.case == PRODUCTS:
        return products(getattr(torch, asked.dtype))
    micro, accumulation = map(int, asked.shapes[0].split("x"))
    train = imported(asked.case)
    before = peak()
    loaded, examples = prepare(asked)
    steps = [
        range(i, min(i + micro * accumulation, len(examples))) for i in range(0, len(examples), micro * accumulation)
    ]
    losses, marks = train(asked, loaded, examples, steps)
    return {
        "seconds": marks[-1][0] - marks[0][0],
        "cpu_seconds": marks[-1][1] - marks[0][1],
        "losses": losses,
        "tokens": sum(len(e.ids) for e in examples),
        "completion_tokens": sum(e.completion_tokens for e in examples),
        "flop": flop(loaded, examples),
        "memory_mib": (peak() - before) / 1024,
    }


Time = tuple[float, float]  # of the clock, and of all threads on their cores
Trained = tuple[list[float], list[Time]]  # the steps' losses; when the first began and each ended


def now() -> Time:
    return time.perf_counter(), time.process_time()


def imported(case: str) -> Any:
    """The function of a case, after its imports, which belong to what the memory is counted above."""
    import dalign.models
    import dalign.train.fit

    assert dalign.models
    assert dalign.train.fit
    if case.startswith("dalign"):
        return ours
    import trl

    assert trl.SFTTrainer
    return theirs


def products(dtype: Any) -> dict[str, float]:
    """The rate of a large matrix product, the fastest of 20."""
    import torch

    a, b = (torch.randn(SIZE, SIZE).to(dtype) for _ in range(2))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - start)
    return {"seconds": min(times), "flop_per_s": 2 * SIZE**3 / min(times)}


def prepare(asked: argparse.Namespace) -> tuple[Any, Sequence[Any]]:
    """The model with a new LoRA, of the same tensors in every process, and the examples."""
    import torch

    from dalign.files import read_records
    from dalign.models import load_model
    from dalign.records import Trace
    from dalign.specs.model import LoraSpec, ModelSpec
    from dalign.train.examples import build_examples

    torch.manual_seed(0)
    spec = ModelSpec(name="bench", id=asked.model, dtype=asked.dtype, device="cpu", lora=LoraSpec())
    loaded = load_model(spec, new_lora=True)
    kept = [trace for trace in read_records(asked.traces, Trace) if not trace.dropped]
    found = build_examples(kept, loaded.chat, max_length=1536, context=loaded.context, validation=0.0)
    return loaded, found.train[: asked.examples]


def ours(asked: argparse.Namespace, loaded: Any, examples: Sequence[Any], steps: Sequence[range]) -> Trained:
    """This project's module, under its own trainer."""
    import torch
    from lightning.pytorch import Callback

    from dalign.specs.stage import DistillStage, TrainerSpec
    from dalign.train.distill import LitDistill
    from dalign.train.forward import prepared, take_apart
    from dalign.train.loader import Batches, PlannedSteps
    from dalign.train.plan import Plan
    from dalign.train.trainer import fit

    marks: list[Time] = []

    class Clock(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            if not marks:
                marks.append(now())

        def on_train_batch_end(self, *_: Any) -> None:
            marks.append(now())

    cut = {"micro_batch_tokens": 1, "bucket": 16} if asked.case.endswith(ONE) else {"bucket": asked.bucket}
    stage = DistillStage(lr=asked.lr, batch=len(steps[0]), **cut)
    plan = Plan(tuple(tuple(step) for step in steps), (0,) * len(steps))
    batches = Batches(examples, stage, context=loaded.context, pad_id=loaded.pad_id)
    parts = take_apart(loaded.model, torch.tensor(examples[0].ids[:8]))
    rows: list[dict[str, Any]] = []
    with prepared(loaded.model, recompute=False):
        module = LitDistill(
            loaded.model, parts, stage, PlannedSteps(batches, plan), (), lambda row: rows.append({**row})
        )
        trainer = TrainerSpec(name="bench", accelerator="cpu")
        fit(module, trainer, device=loaded.device, max_steps=len(steps), callbacks=[Clock()])
    return [row["loss"] for row in rows], marks


def theirs(asked: argparse.Namespace, loaded: Any, examples: Sequence[Any], steps: Sequence[range]) -> Trained:
    """TRL's trainer on the same ids."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    marks: list[Time] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                marks.append(now())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

    micro = 1 if asked.case.endswith(ONE) else int(asked.shapes[0].split("x")[0])
    by_length = asked.case == "TRL, by length"
    order = [i for step in steps for i in (sorted(step, key=lambda i: -len(examples[i].ids)) if by_length else step)]
    rows = [(examples[i].ids, examples[i].completion_start) for i in order]
    data = Dataset.from_list([{"input_ids": [*ids], "labels": [-100] * start + [*ids[start:]]} for ids, start in rows])
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=len(steps[0]) // micro,
            num_train_epochs=1,
            learning_rate=asked.lr,
            lr_scheduler_type="constant",
            max_length=None,
            train_sampling_strategy="sequential",
            pad_to_multiple_of=asked.bucket if asked.case in ("TRL, padded", "TRL, by length") else None,
            bf16=asked.dtype == "bfloat16",
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=loaded.model,
            args=config,
            train_dataset=data,
            processing_class=loaded.tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row], marks


def flop(loaded: Any, examples: Sequence[Any]) -> float:
    """Operations of the matrix products that a step cannot do without.

    Of a frozen weight: the product and the gradient of its input; of an adapter's, its own gradient too; the head at
    completion tokens alone; attention over the causal half, two products forward and four backward.
    """
    config, model = loaded.config, loaded.model.get_base_model()
    frozen = sum(m.base_layer.weight.numel() for m in model.modules() if hasattr(m, "base_layer"))
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = model.get_output_embeddings().weight.numel()
    width = model.model.layers[0].self_attn.o_proj.in_features
    tokens, completion = sum(len(e.ids) for e in examples), sum(e.completion_tokens for e in examples)
    attention = 6 * config.num_hidden_layers * width * sum(len(e.ids) ** 2 for e in examples)
    return float(tokens * (4 * frozen + 6 * adapter) + completion * 4 * head + attention)


if __name__ == "__main__":
    main()
