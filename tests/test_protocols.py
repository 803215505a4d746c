"""protocol=released_code and protocol=prefilled on the embedded world: beside the finished cells, never into them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pipeline import committed, final_files, run, run_and_kill, spec_of
from torch import nn

from dalign.attribute import Pair, score_pairs
from dalign.errors import ArtifactError
from dalign.files import read_records, read_tensors
from dalign.judge.substring import READING
from dalign.models import load_model
from dalign.policies import load_policy
from dalign.records import Prompt, Sample, Verdict
from dalign.scores_file import read_scores
from dalign.specs.model import LoraSpec, ModelSpec

LINE = ("policies=[distill]", "benchmark=[toy_dan,toy_mmlu]", "sampler.n=4", "limit=6", "sampler.chunk=1")
RELEASED = (*LINE, "protocol=released_code", "protocol.cut_at=40")
NAMES = {"bare_judge", "substring", "pad_position", "cut_40", "bf16_cosine", "test_layer", "released_code_cut_40"}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    loaded = load_model(ModelSpec(name="t", id="toy", dtype="float32", lora=LoraSpec(r=4, alpha=8)), new_lora=True)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.02)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    loaded.save_adapter(folder)
    return f"inputs.adapter={folder}"


@pytest.fixture(scope="module")
def plain(adapter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation by the corrected protocol alone."""
    runs = tmp_path_factory.mktemp("plain") / "runs"
    run("evaluate", runs, adapter, *LINE)
    return runs


@pytest.fixture(scope="module")
def released(plain: Path, adapter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, measured by the released code's protocol afterwards."""
    runs = tmp_path_factory.mktemp("released") / "runs"
    shutil.copytree(plain, runs)
    run("evaluate", runs, adapter, *RELEASED)
    return runs


def cell(runs: Path, benchmark: str = "toy_dan") -> Path:
    return runs / "small" / "evaluate" / "distill" / benchmark


def own_files(folder: Path) -> dict[str, str]:
    return {name: sha for name, sha in final_files(folder).items() if not name.startswith("protocols/")}


def rows(runs: Path) -> list[dict[str, object]]:
    found = json.loads((runs / "small" / "report" / "results.json").read_text())["rows"]
    return [dict(row) for row in found]


def test_the_cells_own_files_are_untouched(plain: Path, released: Path) -> None:
    for benchmark in ("toy_dan", "toy_mmlu"):
        assert own_files(cell(released, benchmark)) == final_files(cell(plain, benchmark))
    assert not (cell(plain) / "protocols").exists()


def test_each_switch_has_its_file_and_no_other(released: Path) -> None:
    scores = {"pad_position.safetensors", "cut_40.safetensors", "bf16_cosine.safetensors"}
    scores |= {"released_code_cut_40.safetensors", "asked.json", "judges.json"}
    found = {b: {p.name for p in (cell(released, b) / "protocols").iterdir()} for b in ("toy_dan", "toy_mmlu")}
    assert found == {"toy_dan": scores | {"bare_judge.parquet"}, "toy_mmlu": scores | {"substring.parquet"}}
    assert set(json.loads((cell(released) / "protocols" / "asked.json").read_text())["asked"]) == NAMES


def test_results_have_rows_of_every_protocol_and_the_corrected_ones_as_before(plain: Path, released: Path) -> None:
    found = rows(released)
    assert {row["protocol"] for row in found} == {"corrected", *NAMES}
    assert [row for row in found if row["protocol"] == "corrected"] == rows(plain)
    others = [row for row in found if row["protocol"] != "corrected"]
    assert {row["p_adjusted"] for row in others} == {None}
    guard = {row["protocol"] for row in others if row["judge"] == "toy_guard"}
    truth = {row["protocol"] for row in others if row["judge"] == "toy_truth"}
    assert guard == NAMES - {"substring"}
    assert truth == guard - {"bare_judge"}  # the truth is no guard, so it cannot be asked bare
    assert {row["protocol"] for row in others if row["judge"] == "answers"} == NAMES - {"bare_judge"}
    at_test = [row for row in others if row["layer_chosen_on"] == "test_labels"]
    assert {row["protocol"] for row in at_test} == {"test_layer", "released_code_cut_40"}
    assert {row["selector"] for row in at_test} == {"best_layer_similarity_argmin"}


def test_the_report_says_what_it_is_not(released: Path) -> None:
    page = (released / "small" / "report" / "index.html").read_text()
    assert "not shown to have produced the paper" in page
    assert all(f">{name}<" in page for name in NAMES)


def test_replicas_differ_from_the_scores_as_they_should(released: Path) -> None:
    folder = cell(released)
    own = read_tensors(folder / "scores.safetensors")[0]["layered/similarity"]
    by = {
        name: read_tensors(folder / "protocols" / f"{name}.safetensors")[0]["layered/similarity"]
        for name in ("pad_position", "cut_40", "bf16_cosine")
    }
    samples = read_records(folder / "samples.parquet", Sample)
    lengths = np.array([len(s.prompt_ids) + len(s.response_ids) for s in samples]).reshape(own.shape[:2])
    assert (lengths > 40).any()
    longest = lengths == lengths.max(axis=1, keepdims=True)  # a prompt's four samples are one batch
    same = {name: np.abs(np.nan_to_num(values - own)).max(axis=-1) < 1e-5 for name, values in by.items()}
    assert same["pad_position"][longest].all()
    assert not same["pad_position"][~longest].all()
    assert (same["cut_40"] == (lengths <= 40)).all()
    assert (np.nan_to_num(by["bf16_cosine"][..., 0], nan=1.0) != 1.0).any()
    assert np.nanmax(np.abs(by["bf16_cosine"] - own)) < 0.02


def test_verdicts_of_the_switches_stand_under_the_judges_names(released: Path) -> None:
    bare = read_records(cell(released) / "protocols" / "bare_judge.parquet", Verdict)
    own = [v for v in read_records(cell(released) / "verdicts.parquet", Verdict) if v.judge == "toy_guard"]
    assert [(v.sample_id, v.judge, v.part) for v in bare] == [(v.sample_id, v.judge, v.part) for v in own]
    scored = [(a.p_unsafe, b.p_unsafe) for a, b in zip(bare, own, strict=True) if b.p_unsafe is not None]
    assert len(scored) > 12
    assert any(abs((a or 0.0) - b) > 1e-3 for a, b in scored if b is not None)
    versions = json.loads((cell(released) / "protocols" / "judges.json").read_text())
    assert versions["toy_guard"]["version"].endswith("-bare")
    graded = read_records(cell(released, "toy_mmlu") / "protocols" / "substring.parquet", Verdict)
    assert {tuple(v.correct) for v in graded if v.label == "graded"} == {(READING,)}


def test_a_rerun_does_nothing_and_more_samples_are_measured_anew(released: Path, adapter: str, tmp_path: Path) -> None:
    shutil.copytree(released, tmp_path / "runs")
    folder = cell(tmp_path / "runs") / "protocols"
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    run("evaluate", tmp_path / "runs", adapter, *RELEASED)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    more = [word if word != "sampler.n=4" else "sampler.n=6" for word in LINE]
    run("evaluate", tmp_path / "runs", adapter, *more)
    told = (tmp_path / "runs" / "small" / "report" / "index.html").read_text()
    assert "pad_position.safetensors of distill on toy_dan does not cover" in told
    assert "bare_judge.parquet of distill on toy_dan does not cover" in told
    run("evaluate", tmp_path / "runs", adapter, *more, *RELEASED[-2:])
    assert read_tensors(folder / "pad_position.safetensors")[1]["n"] == 6
    assert len(read_records(folder / "bare_judge.parquet", Verdict)) == 36
    assert "does not cover" not in (tmp_path / "runs" / "small" / "report" / "index.html").read_text()


def test_a_killed_one_ends_with_the_same_files(plain: Path, released: Path, adapter: str, tmp_path: Path) -> None:
    shutil.copytree(plain, tmp_path / "runs")
    log = cell(tmp_path / "runs") / "protocol_scores.jsonl"
    run_and_kill("evaluate", tmp_path / "runs", adapter, *RELEASED, when=lambda: committed(log))
    run("evaluate", tmp_path / "runs", adapter, *RELEASED)
    assert final_files(cell(tmp_path / "runs")) == final_files(cell(released))


def test_another_judge_under_a_bare_ones_name_is_refused(released: Path, adapter: str, tmp_path: Path) -> None:
    shutil.copytree(released, tmp_path / "runs")
    with pytest.raises(ArtifactError, match="another judge"):
        run("evaluate", tmp_path / "runs", adapter, *RELEASED, "judges.harm.threshold=0.01")


@pytest.fixture(scope="module")
def prefilled(plain: Path, adapter: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("prefilled") / "runs"
    shutil.copytree(plain, runs)
    run("evaluate", runs, adapter, *LINE, "protocol=prefilled")
    return runs


def test_prefilled_prompts_end_in_the_prefill_and_are_scored_as_they_were_drawn(prefilled: Path, adapter: str) -> None:
    folder = cell(prefilled, "toy_mmlu@prefilled")
    spec = spec_of("evaluate", prefilled, adapter, *LINE)
    loaded = load_policy(spec, "distill").loaded
    prompts = {p.id: p for p in read_records(folder / "prompts.parquet", Prompt)}
    samples = read_records(folder / "samples.parquet", Sample)
    assert len(samples) == 24
    words = loaded.chat.text_ids("the answer is")
    for sample in samples:
        asked = loaded.chat.user_ids(prompts[sample.prompt_id].text, think=False)
        assert sample.prompt_ids == (*asked, *words)
        assert sample.closed
        assert sample.empty or bool(sample.reasoning) != sample.answer.startswith("the answer is ")
    assert sum(sample.answer.startswith("the answer is ") for sample in samples) > 12
    scored = read_scores(folder / "scores.safetensors", samples)
    (anew,) = score_pairs(loaded, [Pair(samples[0].prompt_ids, samples[0].response_ids)], spec.attribution)
    assert scored[samples[0].id].layered["similarity"] == pytest.approx(anew.layered["similarity"], abs=1e-5)


def test_prefilled_answers_stand_beside_the_others(plain: Path, prefilled: Path) -> None:
    names = {p.name for p in cell(prefilled).parent.iterdir()}
    assert names == {"toy_dan", "toy_mmlu", "toy_mmlu@prefilled"}  # attacks have no prefill
    assert final_files(cell(prefilled, "toy_mmlu")) == final_files(cell(plain, "toy_mmlu"))
    found = rows(prefilled)
    assert [row for row in found if row["protocol"] == "corrected"] == rows(plain)
    others = [row for row in found if row["protocol"] != "corrected"]
    assert {(row["protocol"], row["benchmark"], row["metric"]) for row in others} == {
        ("prefilled", "toy_mmlu", "accuracy")
    }


def test_another_prefill_is_another_evaluation(prefilled: Path, adapter: str) -> None:
    with pytest.raises(ArtifactError, match=r"prefill: 'the answer is' -> 'it is'"):
        run("evaluate", prefilled, adapter, *LINE, "protocol=prefilled", "benchmark.toy_mmlu.prefill=it is")
