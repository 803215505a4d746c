"""The distillation stage: kept traces and a prepared folder in, a plain PEFT folder out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console

from dalign.models import LoadedModel, load_model
from dalign.ranks import ALONE, Ranks
from dalign.records import Trace
from dalign.specs.run import RunSpec
from dalign.specs.stage import DistillStage
from dalign.store import StageFolder
from dalign.train.distill import LitDistill
from dalign.train.examples import ExampleSet, build_examples
from dalign.train.forward import take_apart, trainable_parameters
from dalign.train.lit_adapter import Row
from dalign.train.loader import Batches, PlannedSteps
from dalign.train.plan import Plan, make_plan
from dalign.train.running import Outcome, train_adapter
from dalign.train.trainer import settle

console = Console(stderr=True)


def distill(
    spec: RunSpec,
    traces: Sequence[Trace],
    folder: StageFolder,
    *,
    loaded: LoadedModel | None = None,
    ranks: Ranks = ALONE,
) -> Outcome:
    """Trains a LoRA on ``traces`` and writes ``<folder>/adapter/``; continues what a killed run left there.

    ``loaded`` spares loading the model; it must be freshly made under ``spec.seed``. ``ranks`` are the processes that
    train it together, each of which calls this. Raises ``DataError`` if no trace
    is left, ``ModelError`` if nothing is trainable, the loss is not finite or the adapter did not move, and
    ``ArtifactError`` for checkpoints of another model or other examples.
    """
    stage = spec.stage
    if not isinstance(stage, DistillStage):
        raise TypeError(f"stage {stage!r} is not a distillation")
    settle(spec.trainer, spec.seed, ranks)
    loaded = loaded or _load(spec)
    examples = build_examples(
        traces, loaded.chat, max_length=stage.max_length, context=loaded.context, validation=stage.validation
    )
    plan = make_plan(
        len(examples.train), batch=stage.batch, epochs=stage.epochs, max_steps=stage.max_steps, seed=spec.seed
    )
    counts = f"{len(examples.train)} examples, {len(examples.validation)} held out, {len(plan.steps)} optimiser steps"
    dropped = ", ".join(f"{n} {reason}" for reason, n in examples.dropped.items())
    if ranks.leads:
        console.print(f"{counts}{ranks.words}; dropped: {dropped or 'none'}", highlight=False)

    def module(log_row: Callable[[Row], None]) -> LitDistill:
        shape = {"context": loaded.context, "pad_id": loaded.pad_id}
        steps = PlannedSteps(Batches(examples.train, stage, ranks, **shape), plan)
        validation = Batches(examples.validation, stage, ranks, **shape).of(range(len(examples.validation)))
        probe = torch.tensor(examples.train[0].ids[:8], device=loaded.device)
        return LitDistill(loaded.model, take_apart(loaded.model, probe), stage, steps, validation, log_row, ranks)

    files = train_adapter(
        spec,
        loaded,
        folder,
        module,
        label="distill",
        steps=len(plan.steps),
        checkpoint_every=stage.checkpoint_every,
        ranks=ranks,
    )
    return Outcome(files, _facts(loaded, examples, plan))


def _load(spec: RunSpec) -> LoadedModel:
    start = spec.inputs.adapter
    return load_model(
        spec.model,
        adapter=start,
        trainable=start is not None,
        new_lora=start is None,
        paths=spec.paths,
        world_seed=spec.world_seed,
    )


def _facts(loaded: LoadedModel, examples: ExampleSet, plan: Plan) -> dict[str, Any]:
    trained = trainable_parameters(loaded.model)
    return {
        "examples": len(examples.train),
        "validation_examples": len(examples.validation),
        "dropped": dict(examples.dropped),
        "optimiser_steps": len(plan.steps),
        "completion_tokens": sum(examples.train[i].completion_tokens for step in plan.steps for i in step),
        "trainable_parameters": sum(p.numel() for p in trained.values()),
    }
