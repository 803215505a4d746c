"""The GRPO stage: prompts, judges and the distilled adapter in, a plain PEFT folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from rich.console import Console

from dalign.errors import ConfigError, DataError
from dalign.judge.base import Judge
from dalign.models import LoadedModel, load_model
from dalign.ranks import ALONE, Ranks
from dalign.records import Prompt
from dalign.specs.grpo import GrpoStage, sampler_fault
from dalign.specs.run import RunSpec
from dalign.store import StageFolder
from dalign.train.examples import in_validation, question_group
from dalign.train.forward import take_apart, trainable_parameters
from dalign.train.grpo import LitGRPO
from dalign.train.grpo_draw import PromptSteps
from dalign.train.lit_adapter import Row
from dalign.train.loader import PlannedSteps
from dalign.train.plan import make_plan
from dalign.train.rewards import Rewards
from dalign.train.running import Outcome, train_adapter
from dalign.train.trainer import settle

console = Console(stderr=True)


def grpo(
    spec: RunSpec,
    stage: GrpoStage,
    adapter: str,
    prompts: Sequence[Prompt],
    judges: Mapping[str, Judge],
    folder: StageFolder,
    *,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains ``adapter`` on answers to ``prompts`` and writes ``<folder>/adapter/``; continues what a kill left there.
    ``ranks`` are the processes that train it together, each of which calls this.

    Raises ``ConfigError`` for a sampler that draws from another distribution than the policy's, ``DataError`` if no
    prompt is left, ``ModelError`` if nothing is trainable, a loss is not finite or the adapter did not move, and
    ``ArtifactError`` for checkpoints of another model or other prompts.
    """
    if fault := sampler_fault(spec.sampler):
        raise ConfigError(fault)
    settle(spec.trainer, spec.seed, ranks)
    loaded = load_model(spec.model, adapter=adapter, trainable=True, paths=spec.paths, world_seed=spec.world_seed)
    fitting = [p for p in prompts if _fits(p, loaded)]
    train, held_out = split_prompts(fitting, stage)
    if not train:
        raise DataError(
            f"dataset={spec.dataset.name}: no prompt is left to train on: {len(prompts)} read, {len(fitting)} fit"
        )
    plan = make_plan(len(train), batch=stage.prompts, epochs=stage.epochs, max_steps=stage.max_steps, seed=spec.seed)
    lost = len(prompts) - len(fitting)
    counts = (
        f"{len(train)} prompts, {len(held_out)} held out, {len(plan.steps)} rollouts of {stage.prompts} x {stage.group}"
    )
    if ranks.leads:
        console.print(f"{counts}{ranks.words}; too long for the context: {lost or 'none'}", highlight=False)
    rewards = Rewards(stage.rewards, judges, spec.sampler.max_new_tokens)

    def module(log_row: Callable[[Row], None]) -> LitGRPO:
        probe = torch.tensor(loaded.chat.user_ids(train[0].text, think=True)[:8], device=loaded.device)
        parts, steps = take_apart(loaded.model, probe), PlannedSteps(PromptSteps(train), plan)
        return LitGRPO(loaded, parts, stage, spec.sampler, steps, held_out, rewards, spec.seed, log_row, ranks)

    files = train_adapter(
        spec,
        loaded,
        folder,
        module,
        label="grpo",
        steps=len(plan.steps),
        checkpoint_every=stage.checkpoint_every,
        updates=stage.updates,
        ranks=ranks,
    )
    trained = trainable_parameters(loaded.model)
    facts = {
        "prompts": len(train),
        "validation_prompts": len(held_out),
        "too_long": lost,
        "rollouts": len(plan.steps),
        "trainable_parameters": sum(p.numel() for p in trained.values()),
    }
    return Outcome(files, facts)


def split_prompts(prompts: Sequence[Prompt], stage: GrpoStage) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on, and at most ``validation_prompts`` of those held out; equal questions stay together."""
    held = [in_validation(question_group(p.text), stage.validation) for p in prompts]
    train = [p for p, out in zip(prompts, held, strict=True) if not out]
    return train, [p for p, out in zip(prompts, held, strict=True) if out][: stage.validation_prompts]


def _fits(prompt: Prompt, loaded: LoadedModel) -> bool:
    """Whether the context has room for an answer."""
    return len(loaded.chat.user_ids(prompt.text, think=True)) < loaded.context
