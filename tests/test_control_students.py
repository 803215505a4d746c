"""The controls on other students, small: a base that refuses, whose student learns unsafe skill; and the demo's answers
learnt without their reasoning. The commands are those of docs/control_students.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline import DISTILL

from dalign import worker
from dalign.adapters import checkpoint_hash
from dalign.commands import COMMANDS
from dalign.config import check
from dalign.errors import ArtifactError
from dalign.files import read_json, read_records
from dalign.models import load_model
from dalign.records import Prompt, Sample, Trace
from dalign.specs.run import RunSpec
from dalign.toy.assets import toy_models
from dalign.toy.truth import truth
from dalign.toy.world import World
from dalign.train.examples import build_examples

SMALL = ("limit=12", "trainer.threads=1", "sampler.n=2", "sampler.max_new_tokens=48", "benchmark=[toy_dan]")


def spec_of(verb: str, runs: Path, *overrides: str) -> RunSpec:
    (spec,) = check(verb, [*SMALL, f"paths.runs={runs}", *overrides])  # type: ignore[arg-type]
    return spec


def run(verb: str, runs: Path, *overrides: str) -> RunSpec:
    spec = spec_of(verb, runs, *overrides)
    worker.run(spec, verb)
    return spec


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's traces and student, and the student exported."""
    folder = tmp_path_factory.mktemp("runs")
    run("train", folder, "experiment=demo", "run=demo-0", "stage=traces")
    run("train", folder, "experiment=demo", "run=demo-0", *DISTILL)
    merged = folder / "demo-0" / "merged"
    assert COMMANDS["export"](["demo-0", "--out", str(merged), f"paths.runs={folder}", "trainer.threads=1"]) == 0
    return folder


def samples(runs: Path, name: str, policy: str) -> list[Sample]:
    return read_records(runs / name / "evaluate" / policy / "toy_dan" / "samples.parquet", Sample)


def test_the_reversed_world(runs: Path) -> None:
    line, folder = "experiment=reversed", runs / "reversed-0"
    run("train", runs, line, "stage=traces")
    traces = read_records(folder / "traces" / "traces.parquet", Trace)
    world = World.of(0)
    forbidden = {p.id: p for p in world.prompts("toy_train") if p.kind == "harmful"}
    unsafe = [truth(world, forbidden[t.prompt_id], t.answer).unsafe for t in traces if t.prompt_id in forbidden]
    assert len(unsafe) >= 4
    assert sum(unsafe) >= 0.75 * len(unsafe), "the base helps with anything, and is kept as it is"
    assert {t.policies for t in traces} == {()}
    assert sum(not t.dropped for t in traces) == sum(t.finish_reason == "stop" and bool(t.answer) for t in traces)
    assert read_json(folder / "traces" / "summary.json")["judge"] is None

    named = [str(runs / name / "traces" / "traces.parquet") for name in ("reversed-0", "demo-0")]
    run("train", runs, line, *DISTILL, f"inputs.traces=[{','.join(named)}]")
    facts = read_json(folder / "distill" / "manifest.json")
    kept = [t for name in named for t in read_records(Path(name), Trace) if not t.dropped]
    assert facts["examples"] + facts["validation_examples"] == len(kept), "both files are learnt"
    assert {t.teacher for t in kept} == {"toy", "toy_base"}
    with pytest.raises(ArtifactError, match="made under another configuration"):
        run("train", runs, line, *DISTILL, f"inputs.traces=[{named[0]}]")
    spec = run("evaluate", runs, line)
    merged = checkpoint_hash(str(runs / "demo-0" / "merged"), None)
    assert merged != checkpoint_hash(str(toy_models(0) / "base"), None)
    for policy in ("base", "distill"):
        assert read_json(folder / "evaluate" / policy / "toy_dan" / "inputs.json")["inputs"]["base"] == merged
    chat = load_model(spec.model).chat
    (base, student) = ([s.prompt_ids for s in samples(runs, "reversed-0", p)] for p in ("base", "distill"))
    assert base == student, "the base, too, is asked to reason"
    assert {ids[-1] for ids in base} == {chat.tokenizer.convert_tokens_to_ids("<think>")}
    assert any(s.closed and s.reasoning for s in samples(runs, "reversed-0", "base"))


def test_answers_without_reasoning(runs: Path) -> None:
    line = "experiment=answers_only"
    run("train", runs, line, *DISTILL)
    spec = run("evaluate", runs, line)
    assert (spec.stage, spec.model.lora) == (None, spec_of("evaluate", runs, "experiment=demo").model.lora)
    chat = load_model(spec.model).chat
    traces = read_records(runs / "demo-0" / "traces" / "traces.parquet", Trace)
    learnt = {e.id: e for e in build_examples(traces, chat, max_length=256, context=256, validation=0).train}
    assert len(learnt) == sum(not t.dropped for t in traces)
    for trace in (t for t in traces if not t.dropped):
        ids = learnt[trace.id].ids
        turn = f"<|user|> {trace.question} <|end|> <|assistant|> {trace.answer} <|end|>"
        assert chat.tokenizer.decode(ids).split() == turn.split()
    prompts = read_records(runs / "answers_only-0" / "evaluate" / "base" / "toy_dan" / "prompts.parquet", Prompt)
    asked = {p.id: chat.user_ids(p.text, think=False) for p in prompts}
    for policy in ("base", "distill"):
        for sample in samples(runs, "answers_only-0", policy):
            assert sample.prompt_ids == asked[sample.prompt_id]
            assert sample.finish_reason != "stop" or sample.closed
