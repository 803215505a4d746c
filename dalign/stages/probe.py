"""stage=probe: states of judged samples -> linear probes a layer, out of fold by group, and a table of them.

It draws and judges the samples it needs through the evaluator when they are absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalign.cells import Cell
from dalign.errors import ArtifactError, ConfigError, did_you_mean
from dalign.evaluator import evaluate_policy, open_cells
from dalign.files import sha256, write_json, write_tensors
from dalign.layout import ADAPTER_POLICIES, stage_folder
from dalign.policies import load_policy
from dalign.records import Prompt, digest
from dalign.specs.judge import JudgeSpec
from dalign.specs.probe import DIRECTION, PLAIN
from dalign.specs.run import RunSpec
from dalign.specs.stage import ProbeStage
from dalign.stages.probe_direction import direction_prompts
from dalign.stages.probe_rows import judged_by, labelled_file, rows_of_cells, trainable_judge
from dalign.store import StageFolder

PROBES = "probes"


def run_probe(spec: RunSpec, stage: ProbeStage) -> None:
    """Trains the probes of a policy on the harm benchmarks of ``spec``, or on a labelled file. Raises ``ConfigError``
    if there is neither."""
    if stage.policy not in ADAPTER_POLICIES:
        raise ConfigError(f"stage.policy={stage.policy}: {did_you_mean(stage.policy, ADAPTER_POLICIES)}")
    judge = None if stage.labels else trainable_judge(spec, stage.judge)
    benchmarks = {k: b for k, b in spec.benchmark.items() if "harm" in b.roles}
    if not benchmarks and judge:
        raise ConfigError("stage=probe needs a benchmark with the role harm, for its labels, or stage.labels=FILE")
    narrowed = spec.model_copy(update={"benchmark": benchmarks})
    if benchmarks:
        evaluate_policy(narrowed, stage.policy)
    with open_cells(narrowed, stage.policy) as cells:
        _train(spec, stage, judge, [cell for cell in cells if not cell.prefilled])


def _train(spec: RunSpec, stage: ProbeStage, judge: JudgeSpec | None, cells: Sequence[Cell]) -> None:
    inputs = {c.benchmark.name: sha256(c.path / "samples.parquet")[:16] for c in cells}
    said: dict[str, Any] = {"judge": judge.results()} if judge else {}
    if stage.labels:
        inputs["labels"] = sha256(Path(stage.labels).expanduser())[:16]
    prompts = direction_prompts(spec, stage) if DIRECTION in stage.methods else ()
    if prompts:
        inputs["direction_prompts"] = digest([p.id for p in prompts])
    results = {"stage": stage.results(), **said, "seed": spec.seed, "world_seed": spec.world_seed}
    where = stage_folder(spec, "probe", stage.policy)
    with StageFolder(where, config=spec.model_dump(mode="json"), results=results, inputs=inputs) as folder:
        if not folder.finished:
            _fit(spec, stage, judge, folder, cells, prompts)


def _fit(
    spec: RunSpec,
    stage: ProbeStage,
    judge: JudgeSpec | None,
    folder: StageFolder,
    cells: Sequence[Cell],
    prompts: Sequence[Prompt],
) -> None:
    from dalign.report.probes import TABLE, print_table
    from dalign.stages.probe_set import train_set

    loaded = (cells[0].policy() if cells else load_policy(spec, stage.policy)).loaded
    if judge:
        rows = rows_of_cells(cells, judged_by((v for cell in cells for v in cell.verdicts()), judge))
    else:
        rows = labelled_file(Path(str(stage.labels)).expanduser(), cells, loaded.chat)
    found = train_set(spec, stage, loaded, rows, prompts)
    tensors, table = _tensors({name: fitted.oof_XL for name, fitted in found.fitted.items()}, cells)
    write_tensors(folder.path / "oof.safetensors", tensors, {"schema": 1, "benchmarks": table})
    found.fitted[PLAIN].save(folder.path / "probe.safetensors")
    files = ["oof.safetensors", "probe.safetensors", "summary.json", TABLE]
    for name, variant in stage.variants(spec.attribution.position).items():
        if name != PLAIN:
            files.append(f"{PROBES}/{variant.name}.safetensors")
            found.fitted[name].save(folder.path / files[-1])
    write_json(folder.path / "summary.json", found.fitted[PLAIN].summary())
    write_json(folder.path / TABLE, found.table)
    folder.finish(files, samples=len(rows))
    print_table(found.table)


def _tensors(
    oof: Mapping[str, np.ndarray], cells: Sequence[Cell]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """``<benchmark>/<score>`` tensors (P, N, L+1) of the cells' samples, which stand first, and what their rows are."""
    tensors: dict[str, np.ndarray] = {}
    table, start = {}, 0
    for cell in cells:
        name, count = cell.benchmark.name, len(cell.samples())
        n = count // len(cell.prompts)
        for score, oof_XL in oof.items():
            own_XL = oof_XL[start : start + count].astype(np.float32)
            if len(own_XL) != count:
                raise ArtifactError("the probe's samples and its scores do not match")
            tensors[f"{name}/{score}"] = own_XL.reshape(len(cell.prompts), n, oof_XL.shape[1])
        table[name] = {"prompt_ids": [p.id for p in cell.prompts], "n": n}
        start += count
    return tensors, table
