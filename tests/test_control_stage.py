"""stage=control on the embedded world: what it writes, killed and not, and what it refuses; the evaluation stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from pipeline import committed, final_files, run, run_and_kill, spec_of
from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

from dalign import worker
from dalign.attribute.random_adapter import random_adapter
from dalign.drawing import score_samples, with_answer
from dalign.errors import ArtifactError, ConfigError
from dalign.files import read_json, read_records, read_tensors
from dalign.models import load_model
from dalign.policies import Policy, load_policy
from dalign.records import Sample, Verdict
from dalign.report.load import load_run
from dalign.specs.sampling import AttributionSpec
from dalign.specs.stage import ControlStage
from dalign.stages.control_texts import split_closing
from dalign.toy.assets import PACKAGED

BENCHMARKS = "benchmark=[toy_dan,toy_gsm8k]"
DRAWN = (
    "limit=8",
    "sampler.n=4",
    "sampler.temperature=1.8",
    "sampler.max_new_tokens=23",
    "model.think.where=none",
    BENCHMARKS,
)
CONTROL = ("stage=control", "stage.draws=2", *DRAWN)
SIMILARITY = AttributionSpec(name="similarity", flat=())


class Runs(NamedTuple):
    calm: Path
    killed: Path
    adapter: str

    @property
    def line(self) -> tuple[str, ...]:
        return (*CONTROL, self.adapter)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """An evaluation by a student that has learnt nothing but noise: with its controls, and a copy from before there
    were any. It is hot enough for both labels, and some answers are cut off."""
    base = tmp_path_factory.mktemp("runs")
    spec = spec_of("evaluate", base, "model.think.where=none")
    torch.manual_seed(0)
    loaded = load_model(spec.model, new_lora=True)
    for name, parameter in loaded.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    loaded.save_adapter(base / "adapter")
    found = Runs(base / "calm", base / "killed", f"inputs.adapter={base / 'adapter'}")
    run("evaluate", found.calm, "policies=[distill]", *DRAWN, found.adapter)
    shutil.copytree(found.calm, found.killed)
    run("train", found.calm, *found.line)
    return found


def cell(runs: Path, benchmark: str = "toy_dan") -> Path:
    return runs / "small" / "evaluate" / "distill" / benchmark


def control(runs: Path, name: str, benchmark: str = "toy_dan") -> Path:
    return runs / "small" / "control" / "distill" / benchmark / name


def samples_of(runs: Path, benchmark: str = "toy_dan") -> list[Sample]:
    return read_records(cell(runs, benchmark) / "samples.parquet", Sample)


def scores_of(runs: Path, name: str, score: str) -> torch.Tensor:
    """(X, L+1), sample after sample."""
    found = torch.tensor(read_tensors(control(runs, name) / "scores.safetensors")[0][f"layered/control:{score}"])
    return found.reshape(-1, found.shape[-1])


def plain(runs: Path) -> torch.Tensor:
    found = torch.tensor(read_tensors(cell(runs) / "scores.safetensors")[0]["layered/similarity"])
    return found.reshape(-1, found.shape[-1])


def policy_of(runs: Runs) -> Policy:
    return load_policy(spec_of("train", runs.calm, *runs.line), "distill")


def similarities(policy: Policy, samples: list[Sample]) -> torch.Tensor:
    scores = score_samples(policy.loaded, samples, SIMILARITY)
    return torch.tensor([s.layered.get("similarity", [float("nan")] * 7) for s in scores])


def test_1_a_killed_stage_goes_on_and_ends_with_the_files_of_one_that_was_not(runs: Runs) -> None:
    before = final_files(runs.killed / "small" / "evaluate")
    open_log = control(runs.killed, "random_lora") / "scores.jsonl"
    run_and_kill("train", runs.killed, *runs.line, when=lambda: committed(open_log))
    assert not (control(runs.killed, "random_lora") / "manifest.json").exists()
    assert open_log.read_text().count('"commit"') < 2, "killed before its last chunk"
    run("train", runs.killed, *runs.line)
    made = final_files(runs.calm / "small" / "control")
    assert final_files(runs.killed / "small" / "control") == made
    assert {name.rpartition("/")[2] for name in made} == {"inputs.json", "manifest.json", "scores.safetensors"}
    names = {tuple(name.split("/")[1:3]) for name in made}
    everywhere = {(b, c) for b in ("toy_dan", "toy_gsm8k") for c in ("random_lora", "same_closing")}
    assert names == everywhere | {("toy_dan", "closings")}, "sums have no labels of harm, and nothing names unrelated"
    assert final_files(runs.calm / "small" / "evaluate") == before
    run("train", runs.calm, *runs.line)
    assert final_files(runs.calm / "small" / "control") == made


def test_2_random_adapters_read_the_samples_as_they_are(runs: Runs) -> None:
    policy, samples = policy_of(runs), samples_of(runs.calm)
    for draw in (0, 1):
        with random_adapter(policy.loaded, 0, draw):
            wanted = similarities(policy, samples)
        assert torch.allclose(scores_of(runs.calm, "random_lora", f"random_lora-{draw}"), wanted, atol=1e-6)
    two = [scores_of(runs.calm, "random_lora", f"random_lora-{draw}")[:, -1] for draw in (0, 1)]
    assert not torch.allclose(*two, atol=1e-4)


def test_3_swapped_ends_are_scored_under_the_ids_of_those_that_lost_them(runs: Runs) -> None:
    policy, samples = policy_of(runs), samples_of(runs.calm)
    verdicts = read_records(cell(runs.calm) / "verdicts.parquet", Verdict)
    label = {v.sample_id: v.label for v in verdicts if v.judge == "toy_guard"}
    found, before = scores_of(runs.calm, "closings", "closings"), plain(runs.calm)
    facts = read_json(control(runs.calm, "closings") / "manifest.json")
    swapped = 0
    for i, sample in enumerate(samples):
        others = [
            s
            for s in samples
            if s.prompt_id == sample.prompt_id and {label[s.id], label[sample.id]} == {"unsafe", "safe"}
        ]
        if not others:
            wanted = before[i].nan_to_num(9.0)
            assert torch.allclose(found[i].nan_to_num(9.0), wanted, atol=1e-6), "nothing to swap: read as it is"
            continue
        body = split_closing(sample.answer, 4)[0]
        ways = [with_answer(policy, sample, body + split_closing(s.answer, 4)[1]) for s in others]
        assert any(torch.allclose(found[i], row, atol=1e-5) for row in similarities(policy, ways))
        swapped += all(way.answer != sample.answer for way in ways)
    assert 0 < swapped <= facts["changed"] < facts["samples"] == len(samples)


def test_4_one_end_for_all_leaves_unfinished_answers_alone(runs: Runs) -> None:
    policy, samples = policy_of(runs), samples_of(runs.calm)
    found, before = scores_of(runs.calm, "same_closing", "same_closing"), plain(runs.calm)
    finished = torch.tensor([s.finished for s in samples])
    assert 0 < finished.sum() < len(samples)
    assert torch.allclose(found[~finished].nan_to_num(9.0), before[~finished].nan_to_num(9.0), atol=1e-6)
    read = [with_answer(policy, s, f"{s.answer} a wish for you .") for s in samples if s.finished]
    assert {s.response_ids[-1] for s in read} == {read[0].response_ids[-1]}
    assert torch.allclose(found[finished], similarities(policy, read), atol=1e-6)
    facts = read_json(control(runs.calm, "same_closing") / "manifest.json")
    assert (facts["changed"], facts["samples"]) == (int(finished.sum()), len(samples))


def other_base(folder: Path, **changes: int) -> Path:
    torch.manual_seed(5)
    own = PACKAGED / "seed0" / "base"
    LlamaForCausalLM(AutoConfig.from_pretrained(own, **changes)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(own).save_pretrained(folder)
    return folder


def test_5_an_unrelated_base_is_added_later_and_another_one_is_refused(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.calm, tmp_path / "runs")
    before = final_files(tmp_path / "runs")
    other = other_base(tmp_path / "other")
    run("train", tmp_path / "runs", *runs.line, f"stage.unrelated={other}")
    after = final_files(tmp_path / "runs")
    assert {name for name in after if name not in before} == {
        f"small/control/distill/{benchmark}/unrelated/{name}"
        for benchmark in ("toy_dan", "toy_gsm8k")
        for name in ("inputs.json", "manifest.json", "scores.safetensors")
    }
    assert before.items() <= after.items()
    found = scores_of(tmp_path / "runs", "unrelated", "unrelated")
    second = load_policy(spec_of("train", runs.calm, *runs.line, f"model.base={other}"), "distill")
    assert torch.allclose(found, similarities(second, samples_of(runs.calm)), atol=1e-5)
    assert found[:, 0].abs().max() < 0.9
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"made under another configuration(?s:.*)inputs.unrelated"):
        run("train", tmp_path / "runs", *runs.line, f"stage.unrelated={other}")


def test_6_a_report_takes_them_in(runs: Runs) -> None:
    by_name = {c.benchmark: c for c in load_run(runs.calm / "small").cells}
    own = {name for name in by_name["toy_dan"].scores if name.startswith("control:")}
    assert own == {f"control:{n}" for n in ("random_lora-0", "random_lora-1", "closings", "same_closing")}
    values = torch.tensor(by_name["toy_dan"].scores["control:closings"])
    assert torch.equal(values.reshape(-1, values.shape[-1]).float(), scores_of(runs.calm, "closings", "closings"))
    assert "control:closings" not in by_name["toy_gsm8k"].scores


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["run=elsewhere"],
            "no finished evaluation; run evaluate.py run=elsewhere policies=[distill] benchmark=[toy_dan]",
        ),
        (["stage.draws=5"], "made under another configuration"),
        (["attribution.position=mean"], "position: 'content' -> 'mean'"),
        (["stage.controls=[closings]", "benchmark=[toy_gsm8k]"], "toy_guard has labelled no answer of toy_gsm8k"),
        (["judges.harm.threshold=0.1"], "judge toy_guard"),
        (["stage.unrelated=SHAPE"], "2 layers of width 128, and the student has 6 of 128"),
        (["stage.unrelated=WORDS"], "another vocabulary"),
    ],
    ids=["no evaluation", "other draws", "read elsewhere", "no labels", "another judge", "other shape", "other words"],
)
def test_7_what_is_refused_is_told_and_loses_nothing(
    runs: Runs, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.calm, tmp_path / "runs")
    changes = {"SHAPE": {"num_hidden_layers": 2}, "WORDS": {"vocab_size": 50}}
    for name, shape in changes.items():
        if any(name in word for word in words):
            words = [word.replace(name, str(other_base(tmp_path / name, **shape))) for word in words]
    config = tmp_path / "job.json"
    config.write_text(spec_of("train", tmp_path / "runs", *runs.line, *words).model_dump_json())
    before = final_files(tmp_path / "runs")
    assert worker.main(["--config", str(config), "--verb", "train"]) == 2
    assert told in capsys.readouterr().err
    after = final_files(tmp_path / "runs")
    assert before.items() <= after.items()
    assert not [name for name in after if name.endswith("unrelated/manifest.json")]


def test_8_a_judge_for_reports_alone_labels_nothing(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage.judge is toy_truth, which knows what no control may"):
        spec_of("train", runs.calm, *runs.line, "stage.judge=harm_truth")
    spec = spec_of("train", runs.calm, *runs.line)
    truth = spec.model_copy(update={"stage": ControlStage(judge="harm_truth")})
    (tmp_path / "job.json").write_text(json.dumps(truth.model_dump(mode="json")))
    assert worker.main(["--config", str(tmp_path / "job.json"), "--verb", "train"]) == 2
