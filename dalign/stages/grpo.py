"""stage=grpo: the distilled adapter, prompts and rewards -> group-relative RL -> ``adapter/``, a plain PEFT folder."""

from __future__ import annotations

from dalign.adapters import checkpoint_hash
from dalign.followed import FollowedFolder
from dalign.judge import make_judge
from dalign.layout import adapter_of, stage_folder
from dalign.models import resolve_source
from dalign.prompts import load_dataset
from dalign.ranks import ALONE, Ranks
from dalign.records import digest
from dalign.specs.grpo import GrpoStage
from dalign.specs.run import RunSpec
from dalign.train.grpo_fit import grpo


def run_grpo(spec: RunSpec, stage: GrpoStage, ranks: Ranks = ALONE) -> None:
    """Trains the run's policy ``grpo``, or continues to. Raises ``ArtifactError`` without a distilled adapter."""
    spec = spec.model_copy(update={"sampler": stage.rollouts_of(spec.sampler)})
    adapter = adapter_of(spec, "distill")
    name, _, revision = adapter.partition("@")
    base = resolve_source(spec.model.id, spec.model.revision, paths=spec.paths, world_seed=spec.world_seed)
    prompts = load_dataset(spec.dataset, paths=spec.paths, world_seed=spec.world_seed, limit=spec.limit)
    keys = sorted({reward.judge for reward in stage.rewards.values() if reward.judge is not None})
    judges = {
        key: make_judge(spec.judges[key], world_seed=spec.world_seed, paths=spec.paths, others=spec.judges)
        for key in keys
    }
    inputs = {
        "prompts": digest([p.id for p in prompts]),
        "base": checkpoint_hash(*base),
        "adapter": checkpoint_hash(name, revision or None),
        **{f"judge {key}": judge.version for key, judge in judges.items()},
    }
    results = {
        "model": spec.model.results(),
        "stage": stage.results(),
        "sampler": {**spec.sampler.results(), "n": stage.group},
        "seed": spec.seed,
    }
    config = spec.model_dump(mode="json")
    folder = FollowedFolder(stage_folder(spec, "grpo"), ranks, config=config, results=results, inputs=inputs)
    with folder as stage_dir:
        if stage_dir.finished:
            return
        outcome = grpo(spec, stage, adapter, prompts, judges, stage_dir, ranks=ranks)
        stage_dir.finish(outcome.files, **outcome.facts)
