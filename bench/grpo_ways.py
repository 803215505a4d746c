"""The two ways of ``bench/grpo.py``: this project's module, and TRL's trainer told to do the same."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from distill import Time, now

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
        def __init__(self) -> None:
            self.weights = {"even": 1.0}

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
