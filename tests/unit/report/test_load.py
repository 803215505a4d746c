"""Folders that contradict themselves are refused by name; unfinished ones are left out aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import verdict_of, write_cell

from dalign.errors import ArtifactError
from dalign.files import read_records, write_json, write_records, write_tensors
from dalign.records import Prompt, Sample, Verdict
from dalign.report.load import load_cell, load_run


def test_letters_come_back_as_arrays(tmp_path: Path) -> None:
    run = tmp_path / "r"
    write_cell(
        run, ["us-", "sou"], scores={"similarity": np.arange(18).reshape(2, 3, 3), "kl": np.arange(6).reshape(2, 3)}
    )
    (cell,) = load_run(run).cells
    assert cell.finished_PN.tolist() == [[True, True, False], [True, False, True]]
    assert cell.truncated_PN.tolist() == [[False, False, True], [False] * 3]
    assert cell.empty_PN.tolist() == [[False] * 3, [False, True, False]]
    assert cell.lengths_PN.tolist() == [[5, 6, 7]] * 2
    (judged,) = cell.judged
    assert judged.label_PN.tolist() == [["unsafe", "safe", "unscored"], ["safe", "unscored", "unsafe"]]
    assert judged.reason_PN[0, 2] == "truncated"
    assert cell.scores["similarity"].shape == (2, 3, 3)
    assert (cell.n_layers, cell.scores["kl"].tolist()) == (2, [[0, 1, 2], [3, 4, 5]])


def test_policies_stand_in_reading_order_and_unfinished_cells_are_noted(tmp_path: Path) -> None:
    run = tmp_path / "r"
    for policy in ("zz", "distill", "base", "teacher"):
        write_cell(run, ["us"], policy=policy)
    write_cell(run, ["us"], policy="grpo", finish=False)
    found = load_run(run)
    assert [cell.policy for cell in found.cells] == ["teacher", "base", "distill", "zz"]
    assert len(found.notes) == 1
    assert "grpo on attacks" in found.notes[0]


def test_nothing_finished_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["us"], finish=False)
    for run in ("r", "absent"):
        with pytest.raises(ArtifactError, match=f"evaluate.py run={run}"):
            load_run(tmp_path / run)


def edit(folder: Path, samples: list[Sample] | None = None, verdicts: list[Verdict] | None = None) -> None:
    if samples is not None:
        write_records(folder / "samples.parquet", samples)
    if verdicts is not None:
        write_records(folder / "verdicts.parquet", verdicts)


def read(folder: Path) -> tuple[list[Sample], list[Verdict]]:
    return read_records(folder / "samples.parquet", Sample), read_records(folder / "verdicts.parquet", Verdict)


def test_contradictions_between_samples_and_prompts(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "r", ["us", "su"])
    samples, _ = read(folder)
    stray = replace(samples[0], prompt_id="other")
    faults = {
        "twice": [*samples, samples[1]],
        "has no prompt": [stray, *samples[1:]],
        r"has samples \[0\]": samples[:3],
        r"samples \[0, 2\]": [samples[0], replace(samples[1], index=2), *samples[2:]],
        "of policy 'base'": [replace(samples[0], policy="base"), *samples[1:]],
    }
    for message, rows in faults.items():
        edit(folder, samples=rows)
        with pytest.raises(ArtifactError, match=message):
            load_cell(folder, "distill")
    edit(folder, samples=samples)
    prompts = read_records(folder / "prompts.parquet", Prompt)
    write_records(folder / "prompts.parquet", [*prompts, prompts[0]])
    with pytest.raises(ArtifactError, match="3 prompts, 2 of them different"):
        load_cell(folder, "distill")


def test_contradictions_between_verdicts_and_samples(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "r", ["us"])
    samples, verdicts = read(folder)
    stray = verdict_of(replace(samples[0], index=9), "truth", "u")
    for message, rows in {"not there": [*verdicts, stray], "two verdicts": [*verdicts, verdicts[0]]}.items():
        edit(folder, verdicts=rows)
        with pytest.raises(ArtifactError, match=message):
            load_cell(folder, "distill")


def test_score_tensors_must_fit_and_are_matched_by_prompt(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "r", ["us", "su"])
    ids = [p.id for p in read_records(folder / "prompts.parquet", Prompt)]
    path = folder / "scores.safetensors"

    def save(meta: object, **tensors: np.ndarray) -> None:
        write_tensors(
            path, {k.replace("__", "/"): v.astype(np.float32) for k, v in tensors.items()}, {"prompt_ids": meta}
        )

    save(ids[::-1], flat__kl=np.array([[1, 2], [3, 4]]))
    assert load_cell(folder, "distill").scores["kl"].tolist() == [[3, 4], [1, 2]]
    ragged = {"layered__similarity": np.zeros((2, 2, 3)), "layered__probe": np.zeros((2, 2, 4))}
    bad = ({"flat__kl": np.zeros((2, 3))}, {"flat__kl": np.zeros((2, 2, 1))}, {"other__kl": np.zeros((2, 2))}, ragged)
    for tensors in bad:
        save(ids, **tensors)
        with pytest.raises(ArtifactError, match=r"does not fit|different depth"):
            load_cell(folder, "distill")
    for meta in (ids[:1], [ids[0], "other"], {"a": 1}):
        save(meta, flat__kl=np.zeros((2, 2)))
        with pytest.raises(ArtifactError, match=r"not those of prompts\.parquet"):
            load_cell(folder, "distill")


@pytest.mark.parametrize("name", ["prompts.parquet", "samples.parquet", "verdicts.parquet", "scores.safetensors"])
def test_torn_and_missing_files_are_errors(tmp_path: Path, name: str) -> None:
    folder = write_cell(tmp_path / "r", ["us"], scores={"kl": np.zeros((1, 2))})
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-20])
    with pytest.raises(ArtifactError, match="cut short"):
        load_run(tmp_path / "r")
    with pytest.raises(ArtifactError, match=name):
        load_cell(folder, "distill")
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match="missing"):
        load_run(tmp_path / "r")


def test_config_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "r", ["us"])
    (folder / "config.yaml").write_text("run: r\nseed: 1\n")
    with pytest.raises(ArtifactError, match="lacks model, teacher, sampler, judges"):
        load_cell(folder, "distill")


def probe_file(run: Path, values: np.ndarray, ids: list[str]) -> None:
    folder = run / "probe" / "distill"
    folder.mkdir(parents=True, exist_ok=True)
    table = {"attacks": {"prompt_ids": ids, "n": values.shape[1]}}
    tensors = {"attacks/probe": values.astype(np.float32), "attacks/probe:other": 1 - values.astype(np.float32)}
    write_tensors(folder / "oof.safetensors", tensors, {"benchmarks": table})
    write_json(folder / "manifest.json", {"schema": 1, "files": {}})


def test_a_probe_is_one_more_layered_score_where_it_fits(tmp_path: Path) -> None:
    run = tmp_path / "r"
    folder = write_cell(run, ["us", "su"], scores={"similarity": np.zeros((2, 2, 3))})
    ids = [p.id for p in read_records(folder / "prompts.parquet", Prompt)]
    values = np.arange(12).reshape(2, 2, 3) / 16
    probe_file(run, values, ids[::-1])
    found = load_run(run)
    assert found.cells[0].scores["probe"].tolist() == values[::-1].tolist()
    assert found.cells[0].scores["probe:other"].tolist() == (1 - values[::-1]).tolist()
    assert found.notes == ()
    probe_file(run, values[:, :1], ids)
    found = load_run(run)
    assert "probe" not in found.cells[0].scores
    assert "rerun stage=probe" in found.notes[0]
