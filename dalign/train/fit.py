"""The distillation stage: kept traces and a prepared folder in, a plain PEFT folder out, through any number of kills.

The adapter takes its name in one rename, when training is over: where it stands, there is nothing left to train.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dalign.errors import ModelError
from dalign.files import name_folder, read_json, write_json
from dalign.models import LoadedModel, load_model
from dalign.records import Trace
from dalign.specs.run import RunSpec
from dalign.specs.stage import DistillStage
from dalign.store import StageFolder, progress_bar
from dalign.train.checkpoint import Checkpoints, SealedCheckpointIO, checkpoint_step, latest, rewind_metrics
from dalign.train.distill import LitDistill, tensors_digest
from dalign.train.examples import ExampleSet, build_examples
from dalign.train.forward import prepared, take_apart, trainable_parameters
from dalign.train.loader import Batches, PlannedSteps
from dalign.train.plan import Plan, make_plan
from dalign.train.trackers import tracking, write_csv
from dalign.train.trainer import Progress, fit, settle

console = Console(stderr=True)


@dataclass(frozen=True)
class Outcome:
    """What a stage made: its final files, relative to the folder, and facts for the manifest (none depends on time)."""

    files: tuple[str, ...]
    facts: Mapping[str, Any]


def distill(
    spec: RunSpec, traces: Sequence[Trace], folder: StageFolder, *, loaded: LoadedModel | None = None
) -> Outcome:
    """Trains a LoRA on ``traces`` and writes ``<folder>/adapter/``; continues what a killed run left there.

    ``loaded`` spares loading the model; it must be freshly made under ``spec.seed``. Raises ``DataError`` if no trace
    is left, ``ModelError`` if nothing is trainable, the loss is not finite or the adapter did not move, and
    ``ArtifactError`` for checkpoints of another model or other examples.
    """
    stage = spec.stage
    if not isinstance(stage, DistillStage):
        raise TypeError(f"stage {stage!r} is not a distillation")
    settle(spec.trainer, spec.seed)
    loaded = loaded or _load(spec)
    examples = build_examples(
        traces, loaded.chat, max_length=stage.max_length, context=loaded.context, validation=stage.validation
    )
    plan = make_plan(
        len(examples.train), batch=stage.batch, epochs=stage.epochs, max_steps=stage.max_steps, seed=spec.seed
    )
    adapter = folder.path / "adapter"
    counts = f"{len(examples.train)} examples, {len(examples.validation)} held out, {len(plan.steps)} optimiser steps"
    dropped = ", ".join(f"{n} {reason}" for reason, n in examples.dropped.items())
    console.print(f"{counts}; dropped: {dropped or 'none'}", highlight=False)
    if not adapter.exists():
        _train(spec, stage, loaded, examples, plan, folder)
    shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    if spec.logger.name == "csv":
        write_csv(folder)
    files = tuple(sorted(f"adapter/{path.name}" for path in adapter.iterdir()))
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


def _train(
    spec: RunSpec, stage: DistillStage, loaded: LoadedModel, examples: ExampleSet, plan: Plan, folder: StageFolder
) -> None:
    checkpoints = folder.path / "checkpoints"
    resume = latest(checkpoints)
    done = checkpoint_step(resume) if resume else 0
    rewind_metrics(folder.path / "metrics.jsonl", done if resume else -1)
    shape = {"context": loaded.context, "pad_id": loaded.pad_id}
    steps = PlannedSteps(Batches(examples.train, stage, **shape), plan)
    validation = Batches(examples.validation, stage, **shape).of(range(len(examples.validation)))
    probe = torch.tensor(examples.train[0].ids[:8], device=loaded.device)
    parts = take_apart(loaded.model, probe)
    total = len(plan.steps)
    with (
        prepared(loaded.model, recompute=spec.model.gradient_checkpointing),
        tracking(spec, folder, resumed=done) as log_row,
        progress_bar("distill") as report,
    ):
        module = LitDistill(loaded.model, parts, stage, steps, validation, log_row)
        module.train()
        fit(
            module,
            spec.trainer,
            device=loaded.device,
            max_steps=total,
            callbacks=[Progress(report, total), Checkpoints(checkpoints, every=stage.checkpoint_every, total=total)],
            checkpoint_io=SealedCheckpointIO(),
            resume=resume,
        )
        if tensors_digest(module.trained) == module.initial:
            raise ModelError(
                f"the adapter did not change in {total} steps: stage.lr={stage.lr} is too small for its dtype, "
                "or no gradient reaches it"
            )
        _write_adapter(loaded, folder.path / "adapter")


def _write_adapter(loaded: LoadedModel, target: Path) -> None:
    """The PEFT folder, complete before it takes its name. peft writes its sets in hash order: we sort them."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    loaded.save_adapter(partial)
    config = read_json(partial / "adapter_config.json")
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    write_json(partial / "adapter_config.json", config)
    name_folder(partial, target)
