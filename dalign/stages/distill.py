"""stage=distill: kept traces -> LoRA SFT of the student -> ``adapter/``, a plain PEFT folder."""

from __future__ import annotations

from pathlib import Path

from dalign.adapters import checkpoint_hash
from dalign.files import read_records
from dalign.followed import FollowedFolder
from dalign.layout import file_hash, stage_folder, traces_files
from dalign.models import resolve_source
from dalign.prompts import read_traces
from dalign.ranks import ALONE, Ranks
from dalign.records import Trace, digest
from dalign.specs.run import RunSpec
from dalign.specs.stage import DistillStage
from dalign.train.fit import distill


def run_distill(spec: RunSpec, stage: DistillStage, ranks: Ranks = ALONE) -> None:
    """Trains the adapter of the run, or continues to. Raises ``ArtifactError`` without traces."""
    sources = traces_files(spec)
    base = resolve_source(spec.model.id, spec.model.revision, paths=spec.paths, world_seed=spec.world_seed)
    hashes = [file_hash(source) for source in sources]
    inputs = {"traces": hashes[0] if len(hashes) == 1 else digest(hashes), "base": checkpoint_hash(*base)}
    if spec.inputs.adapter is not None:
        name, _, revision = spec.inputs.adapter.partition("@")
        inputs["adapter"] = checkpoint_hash(name, revision or None)
    results = {"model": spec.model.results(), "stage": stage.results(), "seed": spec.seed}
    config = spec.model_dump(mode="json")
    folder = FollowedFolder(stage_folder(spec, "distill"), ranks, config=config, results=results, inputs=inputs)
    with folder as stage_dir:
        if stage_dir.finished:
            return
        traces = [trace for source in sources for trace in _traces(source)]
        outcome = distill(spec, traces, stage_dir, ranks=ranks)
        stage_dir.finish(outcome.files, **outcome.facts)


def _traces(path: Path) -> list[Trace]:
    """A stage's own Parquet, or a user's JSONL."""
    return read_records(path, Trace) if path.suffix == ".parquet" else list(read_traces(path))
