"""stage=pretrain: makes the embedded world's models for ``world_seed`` in ``paths.cache``."""

from __future__ import annotations

from pathlib import Path

from dalign.specs.run import RunSpec
from dalign.store import progress_bar


def run_pretrain(spec: RunSpec) -> None:
    """Trains base, teacher and guard of the world's seed; models that stand already are kept."""
    from dalign.toy.build import build_models
    from dalign.train.muon import muon_in_float32

    folder = Path(spec.paths.cache).expanduser() / f"seed{spec.world_seed}"
    with muon_in_float32(), progress_bar(f"world {spec.world_seed}") as bar:
        figures = build_models(spec.world_seed, folder, progress=lambda model, step, steps, loss: bar(step, steps))
    print(f"models of world {spec.world_seed}: {folder}")
    for name, value in figures.items():
        print(f"  {name}: {value:.3f}")
