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
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from distill import PRODUCTS, Time, now, products
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
        print(f"{case:<13}{run['seconds']:7.2f}{run['draw_s']:7.2f}{run['learn_s']:7.2f}{run['cpu_seconds']:7.2f}", end="")
        print(f"{run['tokens_per_s']:10.0f}{run['faster']:8.2f}{run['fewer_cpu_s']:7.2f}{run['share_of_bound']:10.0%}", end="")
        print(f"{run['memory_mib']:7.0f}  {_row(run['rewards'])}; {_row(run['grad_norms'])}")
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


Trained = tuple[list[dict[str, Any]], list[Time]]  # a row a step; when the first began and each ended


def even(ids: Sequence[int]) -> float:
    """The reward: the share of even ids."""
    return sum(i % 2 == 0 for i in ids) / max(len(ids), 1)


def ours(asked: argparse.Namespace, loaded: Any, texts: Sequence[str], shape: tuple[int, int, int]) -> Trained:
    """This project's module, under its own trainer."""
    import torch
    from lightning.pytorch import Callback

    from dalign.records import Prompt
    from dalign.specs.grpo import GrpoStage, RewardSpec
    from dalign.specs.sampling import SamplerSpec
    from dalign.specs.stage import TrainerSpec
    from dalign.train.forward import prepared, take_apart
    from dalign.train.grpo import LitGRPO
    from dalign.train.grpo_draw import PromptSteps
    from dalign.train.loader import PlannedSteps
    from dalign.train.plan import Plan
    from dalign.train.trainer import fit, settle

    marks: list[Time] = []

    class Clock(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            if not marks:
                marks.append(now())

        def on_train_batch_end(self, *_: Any) -> None:
            marks.append(now())

    class Even:
        weights = {"even": 1.0}

        def of(self, _: Any, samples: Sequence[Any]) -> dict[str, list[float]]:
            return {"even": [even(sample.response_ids) for sample in samples]}

    prompts, group, longest = shape
    trainer = TrainerSpec(name="bench", accelerator="cpu", threads=asked.threads)
    settle(trainer, 0)
    stage = GrpoStage(
        rewards={"even": RewardSpec(kind="finished")}, prompts=prompts, group=group, lr=asked.lr, bucket=asked.bucket
    )
    sampler = SamplerSpec(name="bench", temperature=1.0, max_new_tokens=longest)
    asked_of = [Prompt("bench", str(i), text, "harmful", text) for i, text in enumerate(texts)]
    plan = Plan(tuple(tuple(range(i, i + prompts)) for i in range(0, len(texts), prompts)), (0,) * asked.steps)
    parts = take_apart(loaded.model, torch.tensor(loaded.chat.user_ids(texts[0], think=True)[:8]))
    rows: list[dict[str, Any]] = []
    rewards: Any = Even()
    with prepared(loaded.model, recompute=False):
        steps = PlannedSteps(PromptSteps(asked_of), plan)
        module = LitGRPO(loaded, parts, stage, sampler, steps, (), rewards, 0, lambda row: rows.append({**row}))
        module.train()
        fit(module, trainer, device=loaded.device, max_steps=asked.steps, callbacks=[Clock()])
    return [{**row, "draw_s": row["rollout_s"]} for row in rows], marks


def theirs(asked: argparse.Namespace, loaded: Any, texts: Sequence[str], shape: tuple[int, int, int]) -> Trained:
    """TRL's trainer on the same ids."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    marks: list[Time] = []
    drawing: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not marks:
                marks.append(now())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

    class Timed(GRPOTrainer):
        def _tokenize_prompts(self, prompts: Sequence[str]) -> Any:
            return [[*loaded.chat.user_ids(texts[int(i)], think=True)] for i in prompts], None, {}

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            if not asked.natural:  # ``train`` takes the tokenizer's again
                self.model.generation_config.eos_token_id = None
            start = time.perf_counter()
            found = super()._generate_single_turn(*args, **kwargs)
            drawing.append(time.perf_counter() - start)
            return found

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [even(ids) for ids in completion_ids]

    prompts, group, longest = shape
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=prompts * group,
            num_generations=group,
            max_completion_length=longest,
            max_steps=asked.steps,
            shuffle_dataset=False,
            temperature=1.0,
            loss_type="dapo",
            epsilon=0.2,
            epsilon_high=0.28,
            beta=0.0,
            learning_rate=asked.lr,
            lr_scheduler_type="constant",
            pad_to_multiple_of=asked.bucket if asked.case.endswith("padded") else None,
            bf16=asked.dtype == "bfloat16",
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        )
        data = Dataset.from_list([{"prompt": str(i)} for i in range(len(texts))])
        trainer = Timed(
            model=loaded.model,
            reward_funcs=reward,
            args=config,
            train_dataset=data,
            processing_class=loaded.tokenizer,
            callbacks=[Clock()],
        )
        if not asked.natural:
            trainer.eos_token_ids = [-1]
            trainer.generation_config.eos_token_id = None
            trainer.generation_kwargs["eos_token_id"] = None
        trainer.train()
    rows = [row for row in trainer.state.log_history if "reward" in row]
    return [
        {**row, "length": row["completions/mean_length"], "draw_s": s} for row, s in zip(rows, drawing, strict=True)
    ], marks


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
