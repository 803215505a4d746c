"""The whole way, small, on the embedded world; and each stage killed once by SIGKILL and run again.

The stages build on one another, so the tests of this file share two runs: ``calm`` is left alone, ``killed`` is not.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pipeline import DISTILL, committed, final_files, run, run_and_kill, spec_of
from safetensors.torch import load_file, save_file
from scripted_server import serving

from dalign.attribute import Pair
from dalign.control_tokens import Reader, control_of
from dalign.drawing import score_samples
from dalign.errors import ArtifactError, RemoteError
from dalign.files import read_records, read_tensors
from dalign.headline import rank
from dalign.models import LoadedModel, load_model
from dalign.policies import load_policy
from dalign.records import Prompt, Sample, Scores, Trace, Verdict
from dalign.report import build_report
from dalign.report.metrics import pooled_auroc
from dalign.scores_file import read_scores
from dalign.specs.sampling import AttributionSpec, SelectorSpec
from dalign.toy.assets import toy_models
from dalign.toy.markup import SPECIAL
from dalign.train.examples import build_examples

HARM = "benchmark=[toy_dan,toy_xstest]"


class Runs(NamedTuple):
    calm: Path
    killed: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    base = tmp_path_factory.mktemp("runs")
    return Runs(base / "calm", base / "killed")


def both(runs: Runs, verb: str, *overrides: str, when: Callable[[], bool]) -> None:
    """The job left alone, and the job killed and rerun."""
    run(verb, runs.calm, *overrides)
    run_and_kill(verb, runs.killed, *overrides, when=when)
    run(verb, runs.killed, *overrides)


def test_1_traces(runs: Runs) -> None:
    folder = runs.killed / "small" / "traces"
    both(runs, "train", "stage=traces", when=lambda: committed(folder / "drawn.jsonl"))
    assert final_files(folder) == final_files(runs.calm / "small" / "traces")
    traces = read_records(folder / "traces.parquet", Trace)
    assert len(traces) == 12
    assert len({t.id for t in traces}) == 12
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["kept"] + summary["dropped"] == 12
    assert summary["judge"] == "toy_guard"


def test_2_distill(runs: Runs) -> None:
    folder = runs.killed / "small" / "distill"
    both(runs, "train", *DISTILL, when=lambda: any((folder / "checkpoints").glob("*")))
    assert final_files(folder) == final_files(runs.calm / "small" / "distill")
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_3_evaluate(runs: Runs) -> None:
    line = ("policies=[base,distill]", HARM)
    folder = runs.killed / "small" / "evaluate"
    drawing = folder / "distill" / "toy_xstest" / "samples.jsonl"
    run_and_kill("evaluate", runs.killed, *line, when=lambda: committed(drawing))
    both(runs, "evaluate", *line, when=lambda: any(map(committed, folder.glob("distill/*/scores.jsonl"))))
    assert final_files(folder) == final_files(runs.calm / "small" / "evaluate")
    assert final_files(runs.killed / "small" / "report") == final_files(runs.calm / "small" / "report")
    for policy in ("base", "distill"):
        cell = folder / policy / "toy_dan"
        samples = read_records(cell / "samples.parquet", Sample)
        assert len({s.id for s in samples}) == len(samples) == 24
        verdicts = read_records(cell / "verdicts.parquet", Verdict)
        assert {v.judge for v in verdicts} >= {"toy_guard", "toy_truth"}
        assert len({(v.sample_id, v.judge, v.part) for v in verdicts}) == len(verdicts)
        assert (cell / "scores.safetensors").exists() is (policy == "distill")
        assert control_of(cell) == dict.fromkeys(("model", "toy_guard"), Reader(tuple(sorted(SPECIAL))))


def test_3a_a_judge_of_another_configuration_needs_another_name(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.calm / "small", tmp_path / "runs" / "small")
    cell = tmp_path / "runs" / "small" / "evaluate" / "distill" / "toy_dan"
    before = (cell / "verdicts.parquet").read_bytes()
    line = ("policies=[distill]", "benchmark=[toy_dan]", "judges.harm.threshold=0.0001")
    with pytest.raises(ArtifactError, match=r"judge toy_guard .*another judge(?s:.*)threshold: 0.5 -> 0.0001"):
        run("evaluate", tmp_path / "runs", *line)
    assert (cell / "verdicts.parquet").read_bytes() == before
    run("evaluate", tmp_path / "runs", *line, "judges.harm.name=strict_guard")
    verdicts = read_records(cell / "verdicts.parquet", Verdict)
    for name, threshold in (("toy_guard", 0.5), ("strict_guard", 0.0001)):
        scored = [v for v in verdicts if v.judge == name and v.p_unsafe is not None]
        assert len(scored) > 12
        assert all((v.label == "unsafe") == ((v.p_unsafe or 0.0) >= threshold) for v in scored)
    assert set(json.loads((cell / "judges.json").read_text())) == {"strict_guard", "toy_guard", "toy_truth"}


def test_3b_a_composite_reads_what_its_members_have_said(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.calm / "small", tmp_path / "runs" / "small")
    cell = tmp_path / "runs" / "small" / "evaluate" / "distill" / "toy_dan"
    both = ["+judge@judges.harm_both=all", "judges.harm_both.of=[harm,harm_truth]", "judges.harm_both.report_only=true"]
    run("evaluate", tmp_path / "runs", "policies=[distill]", "benchmark=[toy_dan]", *both)
    said = {name: {} for name in ("toy_guard", "toy_truth", "all")}
    for verdict in read_records(cell / "verdicts.parquet", Verdict):
        said[verdict.judge][verdict.sample_id] = verdict.label
    assert said["all"].keys() == said["toy_guard"].keys()
    assert sum(label != "unscored" for label in said["all"].values()) > 12
    for sample, label in said["all"].items():
        votes = {said["toy_guard"][sample], said["toy_truth"][sample]}
        assert label == ("safe" if "safe" in votes else "unscored" if "unscored" in votes else "unsafe")


def test_3e_rerankers_choose_and_report_nothing(runs: Runs, tmp_path: Path) -> None:
    """A guard, the policy itself and a reward model, on what a run has drawn already."""
    shutil.copytree(runs.calm / "small", tmp_path / "runs" / "small")
    cell = tmp_path / "runs" / "small" / "evaluate" / "distill" / "toy_dan"
    before = (cell / "verdicts.parquet").read_bytes()
    line = ["policies=[distill]", "benchmark=[toy_dan]", "selector.score=rerank:guard"]
    guard = ["+judge@judges.rerank=toy_guard", "judges.rerank.name=guard"]
    run("evaluate", tmp_path / "runs", *line, *guard, "+judge@judges.rerank_self=toy_self")
    assert (cell / "verdicts.parquet").read_bytes() == before
    found = read_records(cell / "reranked.parquet", Verdict)
    samples = {s.id: s for s in read_records(cell / "samples.parquet", Sample)}
    assert {(v.judge, v.sample_id) for v in found} == {(name, i) for name in ("guard", "toy_self") for i in samples}
    told = {(v.judge, v.sample_id): v.p_unsafe for v in found if v.label != "unscored"}
    reported = [v for v in read_records(cell / "verdicts.parquet", Verdict) if v.judge == "toy_guard" and v.p_unsafe]
    assert len(reported) > 12
    assert all(told["guard", v.sample_id] == v.p_unsafe for v in reported), "the same guard under another name"
    own = [p for (name, _), p in told.items() if name == "toy_self"]
    assert len(set(own)) > 6, "the student was asked about each of its answers"
    rows = json.loads((tmp_path / "runs" / "small" / "report" / "results.json").read_text())["rows"]
    names = {row["selector"] for row in rows if row["policy"] == "distill" and row["benchmark"] == "toy_dan"}
    assert names >= {"rerank:guard_argmin", "rerank:toy_self_argmin", "until_safe", "medoid", "refusal_vote"}
    assert {row["judge"] for row in rows} == {"toy_guard", "toy_truth", "toy_refusal"} & {row["judge"] for row in rows}
    again = (cell / "reranked.parquet").read_bytes()
    run("evaluate", tmp_path / "runs", *line, *guard)
    assert (cell / "reranked.parquet").read_bytes() == again


def test_3c_a_judge_that_gives_out_half_way_goes_on_where_it_stopped(runs: Runs, tmp_path: Path) -> None:
    """Ten requests are allowed, four samples make a chunk: less than a chunk is asked for twice."""
    shutil.copytree(runs.calm / "small", tmp_path / "runs" / "small")
    cell = tmp_path / "runs" / "small" / "evaluate" / "distill" / "toy_dan"
    with serving(lambda body, i: f"VERDICT: {'UNSAFE' if i % 3 == 0 else 'SAFE'}") as server:
        far = ["+judge@judges.harm_far=server", f"judges.harm_far.endpoint.url={server.url}"]
        far += ["judges.harm_far.endpoint.model=m", "judges.harm_far.endpoint.concurrency=1"]
        line = ["policies=[distill]", "benchmark=[toy_dan]", *far]
        with pytest.raises(RemoteError, match="budget of 10 requests is spent"):
            run("evaluate", tmp_path / "runs", *line, "judges.harm_far.endpoint.max_requests=10")
        assert len(server.requests) == 10
        assert not any(v.judge == "server" for v in read_records(cell / "verdicts.parquet", Verdict))
        run("evaluate", tmp_path / "runs", *line)
    said = [v for v in read_records(cell / "verdicts.parquet", Verdict) if v.judge == "server"]
    judged = [v for v in said if v.label != "unscored"]
    assert len(said) == 24
    assert len(judged) > 12
    assert 0 <= len(server.requests) - len(judged) < 4
    assert {v.label for v in judged} == {"safe", "unsafe"}


def test_3d_an_adapter_is_not_put_on_another_base(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(toy_models(0), tmp_path / "cache" / "seed7")
    (weights,) = (tmp_path / "cache" / "seed7" / "base").glob("*.safetensors")
    save_file({k: t * 1.01 for k, t in load_file(weights).items()}, weights, {"format": "pt"})
    spec = spec_of("evaluate", runs.calm, "world_seed=7", f"paths.cache={tmp_path / 'cache'}")
    with pytest.raises(ArtifactError, match="trained on base"):
        load_policy(spec, "distill")
    assert load_policy(spec_of("evaluate", runs.calm), "distill").loaded.adapter_hash is not None


def test_3e_a_scorer_that_fails_half_way_loses_no_finished_chunk(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(runs.calm / "small", tmp_path / "runs" / "small")
    cell = tmp_path / "runs" / "small" / "evaluate" / "distill" / "toy_dan"
    calm = (cell / "scores.safetensors").read_bytes()
    for name in ("scores.safetensors", "manifest.json"):
        (cell / name).unlink()
    line = ("policies=[distill]", "benchmark=[toy_dan]")
    asked: list[list[str]] = []

    def failing(loaded: LoadedModel, samples: Sequence[Sample], spec: AttributionSpec) -> list[Scores]:
        asked.append([s.id for s in samples])
        if len(asked) == 2:
            raise RuntimeError("the scorer gave out")
        return score_samples(loaded, samples, spec)

    monkeypatch.setattr("dalign.cells.score_samples", failing)
    with pytest.raises(RuntimeError, match="gave out"):
        run("evaluate", tmp_path / "runs", *line)
    assert not (cell / "scores.safetensors").exists()
    run("evaluate", tmp_path / "runs", *line)
    first, failed, again = asked
    assert (len(first), again) == (16, failed)
    assert (cell / "scores.safetensors").read_bytes() == calm


def test_4_probe(runs: Runs) -> None:
    # A student that hardly moved and does not reason is as unsafe as its base: both labels occur.
    traces = runs.calm / "small" / "traces" / "traces.parquet"
    plain = ("run=plain", "model.think.where=none", f"inputs.traces={traces}")
    for base in runs:
        run("train", base, *DISTILL, *plain, "stage.lr=1e-6")
    folder = runs.killed / "plain" / "probe" / "distill"
    line = ("stage=probe", "stage.folds=2", HARM, *plain)
    both(runs, "train", *line, when=lambda: (folder / "inputs.json").exists())
    assert final_files(folder) == final_files(runs.calm / "plain" / "probe" / "distill")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["unsafe"] > 0
    assert summary["safe"] > 0
    # The scores in the file are the samples' own: they separate as well as the summary says they do.
    tensors, facts = read_tensors(folder / "oof.safetensors")
    unsafe, scores = [], []
    for name in facts["benchmarks"]:
        cell = runs.killed / "plain" / "evaluate" / "distill" / name
        found = read_records(cell / "verdicts.parquet", Verdict)
        label = {v.sample_id: v.label for v in found if v.judge == "toy_guard"}
        unsafe += [label[s.id] for s in read_records(cell / "samples.parquet", Sample)]
        scores.append(tensors[f"{name}/probe"].reshape(-1, tensors[f"{name}/probe"].shape[-1]))
    event, known = np.array(unsafe) == "unsafe", np.isin(unsafe, ["unsafe", "safe"])
    last = np.concatenate(scores)[:, -1].astype(float)
    assert pooled_auroc(last[None], event[None], known[None]) == pytest.approx(summary["auroc_pooled"][-1], abs=1e-6)


def plain_without_probes(runs: Runs, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """A copy of the run of ``test_4_probe`` without its probe, and the words of its command."""
    shutil.copytree(runs.calm / "plain", folder / "plain")
    shutil.rmtree(folder / "plain" / "probe")
    traces = runs.calm / "small" / "traces" / "traces.parquet"
    line = ("stage=probe", "stage.folds=2", HARM, "run=plain", "model.think.where=none", f"inputs.traces={traces}")
    return folder / "plain" / "probe" / "distill", line


def test_4b_a_set_of_probes_leaves_the_plain_one_as_it_was(runs: Runs, tmp_path: Path) -> None:
    folder, line = plain_without_probes(runs, tmp_path)
    asked = (
        "stage.methods=[logistic,class_means]",
        "stage.inputs=[base,difference]",
        "stage.poolings=[content,mean,prompt]",
    )
    run("train", tmp_path, *line, *asked)
    before = runs.calm / "plain" / "probe" / "distill"
    for name in ("probe.safetensors", "summary.json"):
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    tensors, _ = read_tensors(folder / "oof.safetensors")
    old, _ = read_tensors(before / "oof.safetensors")
    assert all(np.array_equal(tensors[name], values) for name, values in old.items())
    names = {name.partition("/")[2] for name in tensors}
    assert len(names) == 12
    assert {"probe", "probe:logistic-base-mean", "probe:class_means-difference-prompt"} <= names
    assert not any("logistic-base-content" in name for name in names)  # that is the plain one
    table = json.loads((folder / "probes.json").read_text())
    assert {entry["name"] for entry in table["probes"]} == names
    assert [entry["name"] for entry in table["baselines"]] == ["length", "ending", "words"]
    at_prompt = next(e for e in table["probes"] if e["name"] == "probe:logistic-base-prompt")
    assert at_prompt["figures"]["auroc_within"] in (None, 0.5)  # all samples of a prompt share that state
    assert {path.stem for path in (folder / "probes").glob("*")} == {
        n.removeprefix("probe:") for n in names - {"probe"}
    }
    choice = "selector.score=probe:class_means-difference-mean"
    spec = spec_of("evaluate", tmp_path, "run=plain", "model.think.where=none", choice)
    samples = read_records(tmp_path / "plain" / "evaluate" / "distill" / "toy_dan" / "samples.parquet", Sample)[:2]
    loaded = load_policy(spec, "distill").loaded
    found = rank(spec, loaded, [Pair(s.prompt_ids, s.response_ids, loaded.chat.end_id) for s in samples], [True, True])
    assert found.values is not None
    assert all(0 < value < 1 for value in found.values)


def test_4d_the_refusal_direction_is_a_score_that_knows_no_verdict(runs: Runs, tmp_path: Path) -> None:
    folder, line = plain_without_probes(runs, tmp_path)
    bare = (*line, "stage.methods=[refusal_direction]", "stage.inputs=[student,base]", "stage.leave_out=false")
    run("train", tmp_path, *bare, "stage.direction_prompts=40")
    before = runs.calm / "plain" / "probe" / "distill"
    assert (folder / "probe.safetensors").read_bytes() == (before / "probe.safetensors").read_bytes()
    tensors, _ = read_tensors(folder / "oof.safetensors")
    score = "refusal_direction:student-content"
    assert {name.partition("/")[2] for name in tensors} == {"probe", score, "refusal_direction:base-content"}
    along_PNL = tensors[f"toy_dan/{score}"]
    assert (along_PNL[..., 0] == 0).all(), "the last token of all prompts is the same, so layer 0 has no direction"
    assert len(np.unique(along_PNL[..., 1:])) > 1
    table = json.loads((folder / "probes.json").read_text())
    assert table["direction_prompts"] == {"harmful": 40, "benign": 40}
    entry = next(e for e in table["probes"] if e["name"] == score)
    assert (entry["figures"]["ece"], entry["left_out"]) == (None, {})
    names = {row.selector for row in build_report(tmp_path / "plain", headline=SelectorSpec(name="bon"), seed=0).rows}
    assert {f"{score}_argmin", f"{score}_argmax"} <= names
    # On the spot, from the file, they are what the stage found.
    words = ("run=plain", "model.think.where=none", f"selector.score={score}", "selector.direction=argmax")
    spec = spec_of("evaluate", tmp_path, *words, "selector.layer=2")
    samples = read_records(tmp_path / "plain" / "evaluate" / "distill" / "toy_dan" / "samples.parquet", Sample)[:2]
    loaded = load_policy(spec, "distill").loaded
    found = rank(spec, loaded, [Pair(s.prompt_ids, s.response_ids, loaded.chat.end_id) for s in samples], [True, True])
    assert found.values == pytest.approx(along_PNL[0, :, 2].tolist(), abs=1e-4)
    with pytest.raises(ArtifactError, match="made under another configuration"):
        run("train", tmp_path, *bare, "stage.direction_prompts=39")


def test_4c_a_labelled_file_takes_the_judges_place(runs: Runs, tmp_path: Path) -> None:
    folder, line = plain_without_probes(runs, tmp_path)
    cell = tmp_path / "plain" / "evaluate" / "distill" / "toy_dan"
    texts = {p.id: p.text for p in read_records(cell / "prompts.parquet", Prompt)}
    rows = [
        {"prompt": texts[s.prompt_id], "response": s.answer or "-", "label": "unsafe" if i % 3 else "safe"}
        | ({"sample_id": s.id} if i < 12 else {})
        for i, s in enumerate(read_records(cell / "samples.parquet", Sample)[:20])
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    run("train", tmp_path, *line, f"stage.labels={file}")
    table = json.loads((folder / "probes.json").read_text())
    assert table["samples"] == 24 * 2 + 8
    assert (table["unsafe"], table["safe"]) == (13, 7)
    tensors, _ = read_tensors(folder / "oof.safetensors")
    assert {name: values.shape[:2] for name, values in tensors.items()} == {
        "toy_dan/probe": (12, 2),
        "toy_xstest/probe": (12, 2),
    }
    with pytest.raises(ArtifactError, match="made under another configuration"):
        run("train", tmp_path, *line)
    adapter = f"inputs.adapter={tmp_path / 'plain' / 'distill' / 'adapter'}"
    words = ("stage=probe", "stage.folds=2", "run=alone", "benchmark=[toy_mmlu]", "model.think.where=none", adapter)
    run("train", tmp_path, *words, f"stage.labels={file}")
    alone = tmp_path / "alone" / "probe" / "distill"
    assert json.loads((alone / "probes.json").read_text())["samples"] == 20
    assert read_tensors(alone / "oof.safetensors") == ({}, {"benchmarks": {}, "schema": 1})
    assert not (tmp_path / "alone" / "evaluate").exists()


def test_paper_error_4_training_sampling_and_scoring_share_their_ids(runs: Runs) -> None:
    chat = load_model(spec_of("evaluate", runs.calm).model).chat
    cell = runs.calm / "small" / "evaluate" / "distill" / "toy_dan"
    prompts = {p.id: p for p in read_records(cell / "prompts.parquet", Prompt)}
    traces = read_records(runs.calm / "small" / "traces" / "traces.parquet", Trace)
    example = build_examples(traces, chat, max_length=256, context=256, validation=0).train[0]
    trace = next(t for t in traces if t.id == example.id)
    assert example.ids[: example.completion_start] == chat.user_ids(trace.question, think=True)
    for sample in read_records(cell / "samples.parquet", Sample):
        assert sample.prompt_ids == chat.user_ids(prompts[sample.prompt_id].text, think=True)


def test_5_scores_are_placebo_at_layer_0_and_finite(runs: Runs) -> None:
    cell = runs.calm / "small" / "evaluate" / "distill" / "toy_dan"
    scores = read_scores(cell / "scores.safetensors", read_records(cell / "samples.parquet", Sample))
    scored = [s for s in scores.values() if not s.error]
    assert scored
    assert {s.layered["similarity"][0] for s in scored} == {1.0}
    assert any(s.layered["similarity"][-1] != 1.0 for s in scored)


def test_6_a_rerun_does_nothing(runs: Runs) -> None:
    before = {p: p.stat().st_mtime_ns for p in (runs.calm / "small" / "evaluate").rglob("*.parquet")}
    run("evaluate", runs.calm, "policies=[base,distill]", HARM)
    assert {p: p.stat().st_mtime_ns for p in (runs.calm / "small" / "evaluate").rglob("*.parquet")} == before


def test_7_more_samples_keep_those_that_are_there(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.calm, tmp_path / "more")
    cell = tmp_path / "more" / "small" / "evaluate" / "base" / "toy_dan"
    before = {s.id: s for s in read_records(cell / "samples.parquet", Sample)}
    run("evaluate", tmp_path / "more", "policies=[base]", "benchmark=[toy_dan]", "sampler.n=3")
    after = {s.id: s for s in read_records(cell / "samples.parquet", Sample)}
    assert len(after) == 36
    assert {key: after[key] for key in before} == before
    assert len(read_records(cell / "verdicts.parquet", Verdict)) == 36 * 2


def test_8_a_config_that_changes_results_is_refused(runs: Runs) -> None:
    with pytest.raises(ArtifactError, match=r"sampler\.temperature: 0\.7 -> 0\.9"):
        run("evaluate", runs.calm, "policies=[base]", "benchmark=[toy_dan]", "sampler.temperature=0.9")
    assert (runs.calm / "small" / "evaluate" / "base" / "toy_dan" / "manifest.json").exists()


def test_9_distil_without_traces(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run stage=traces first"):
        run("train", tmp_path, *DISTILL)


def test_10_results_follow_the_schema(runs: Runs) -> None:
    results = json.loads((runs.calm / "small" / "report" / "results.json").read_text())
    assert results["schema"] == 1
    rows = results["rows"]
    assert {r["policy"] for r in rows} == {"base", "distill"}
    peeking = [r for r in rows if r["layer_chosen_on"] == "test_labels"]
    assert peeking
    assert all(r["selector"].startswith("best_layer") for r in peeking)
    with (runs.calm / "small" / "report" / "results.csv").open(encoding="utf-8") as stream:
        versions = {r["judge"]: r["judge_version"] for r in csv.DictReader(stream)}
    assert versions["toy_guard"].startswith("toy_guard-")
    assert all(versions.values())
    similar = {r["selector"] for r in rows if "similarity" in r["selector"]}
    assert {"similarity_argmin", "similarity_argmax"} <= similar
