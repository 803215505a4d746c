"""GRPO on the tiny checkpoint: an adapter distilled from made-up traces, and a judge that likes one word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiny_stage import WORDS, run_spec, run_stage

from dalign.judge.base import JudgeItem, harm_verdict
from dalign.records import Part, Prompt, Verdict
from dalign.specs.grpo import GrpoStage
from dalign.specs.run import RunSpec
from dalign.store import StageFolder
from dalign.train.grpo_fit import grpo
from dalign.train.running import Outcome

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
