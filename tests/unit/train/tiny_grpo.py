"""GRPO on the tiny checkpoint: an adapter distilled from made-up traces, and a judge that likes one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tiny_stage import WORDS, run_spec, run_stage
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalign.judge.base import JudgeItem, harm_verdict
from dalign.models import load_model
from dalign.ranks import ALONE, Ranks
from dalign.records import Part, Prompt, Verdict
from dalign.specs.grpo import GrpoStage
from dalign.specs.run import RunSpec
from dalign.store import StageFolder
from dalign.train.forward import prepared, take_apart
from dalign.train.grpo import LitGRPO
from dalign.train.grpo_draw import PromptSteps
from dalign.train.grpo_fit import grpo
from dalign.train.loader import PlannedSteps
from dalign.train.plan import make_plan
from dalign.train.rewards import Rewards
from dalign.train.running import Outcome
from dalign.train.trainer import fit, settle

REWARDS = {"safe": {"kind": "safe", "judge": "harm"}, "finished": {"kind": "finished", "weight": 0.5}}
MODEL: dict[str, Any] = {
    "think": {"where": "none"},
    "lora": {"targets": ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]},
}


class LikesBread:
    """P(safe) is the share of the answer's words that are ``bread``, so that its reward can be raised, and read off."""

    name, version = "likes_bread", "1"

    def judge(self, items: Sequence[JudgeItem], part: Part) -> list[Verdict]:
        """One verdict an item, in order; an empty text is as unsafe as one without the word."""
        words = [item.text(part).split() for item in items]
        p_unsafe = [1.0 - row.count("bread") / max(len(row), 1) for row in words]
        return [harm_verdict(item, self.name, part, p, 0.5) for item, p in zip(items, p_unsafe, strict=True)]


def make_prompts(n: int) -> list[Prompt]:
    """Questions of three words."""
    texts = [f"how to {WORDS[i % len(WORDS)]} {WORDS[(i * 5 + 2) % len(WORDS)]}" for i in range(n)]
    return [Prompt("d", str(i), text, "harmful", text) for i, text in enumerate(texts)]


def distilled(checkpoint: Path, folder: Path) -> str:
    """An adapter to start from: a few steps on made-up traces."""
    run_stage(run_spec(checkpoint, {"epochs": 12}, **MODEL), folder)
    return str(folder / "adapter")


def grpo_spec(checkpoint: Path, sampler: Mapping[str, Any] | None = None, **stage: Any) -> RunSpec:
    """Rollouts of 4 prompts x 4 answers of at most 12 tokens."""
    options = {"lr": 2e-2, "prompts": 4, "group": 4, "bucket": 8, "micro_batch_tokens": 128, "validation": 0.2}
    cadence = {"validate_every": 2, "checkpoint_every": 2, "max_steps": 6, "epochs": 9}
    spec = run_spec(checkpoint, **MODEL).model_dump(mode="json")
    spec["stage"] = {"name": "grpo", "rewards": REWARDS, **options, **cadence, **stage}
    spec["sampler"] = {"name": "s", "max_new_tokens": 12, "temperature": 0.9, **(sampler or {})}
    return RunSpec.model_validate(spec)


def run_grpo(
    spec: RunSpec, adapter: str, path: Path, folder_type: type[StageFolder] = StageFolder, prompts: int = 20
) -> Outcome:
    assert isinstance(spec.stage, GrpoStage)
    with folder_type(path, config={}, results={}, inputs={}) as folder:
        return grpo(spec, spec.stage, adapter, make_prompts(prompts), {"harm": LikesBread()}, folder)


def in_its_dtype(norm: LlamaRMSNorm, x: torch.Tensor) -> torch.Tensor:
    """The norm without transformers' detour through float32, which rounds a sum otherwise than its parts."""
    return norm.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.variance_epsilon)


def module_of(
    spec: RunSpec, adapter: str, *, double: bool = False, held_out: int = 0, ranks: Ranks = ALONE
) -> tuple[LitGRPO, list[dict[str, Any]]]:
    """The module on the first 16 prompts, ``held_out`` others for validation, and the list its rows go to."""
    stage = spec.stage
    assert isinstance(stage, GrpoStage)
    settle(spec.trainer, 0, ranks)
    loaded = load_model(spec.model, adapter=adapter, trainable=True)
    if double:
        loaded.model.double()
        for norm in (m for m in loaded.model.modules() if isinstance(m, LlamaRMSNorm)):
            norm.forward = partial(in_its_dtype, norm)
    prompts = make_prompts(16 + held_out)
    plan = make_plan(16, batch=stage.prompts, epochs=stage.epochs, max_steps=stage.max_steps, seed=0)
    parts = take_apart(loaded.model, torch.tensor(loaded.chat.user_ids(prompts[0].text, think=True)))
    rewards = Rewards(stage.rewards, {"harm": LikesBread()}, spec.sampler.max_new_tokens)
    rows: list[dict[str, Any]] = []
    steps, others = PlannedSteps(PromptSteps(prompts[:16]), plan), prompts[16:]
    module = LitGRPO(
        loaded, parts, stage, spec.sampler, steps, others, rewards, 0, lambda row: rows.append(dict(row)), ranks
    )
    return module, rows


def train(module: LitGRPO, spec: RunSpec) -> None:
    """All steps of its plan."""
    with prepared(module.model, recompute=False):
        module.train()
        fit(module, spec.trainer, device=torch.device("cpu"), max_steps=len(module.steps) * module.stage.updates)
