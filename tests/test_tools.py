"""`dalign try`, `dalign score` and the ten-line library, on the embedded world's base with an adapter made here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline import spec_of
from torch import nn

from dalign import api, scoring, trial
from dalign.errors import ArtifactError, ConfigError, DataError, ModelError
from dalign.models import load_model
from dalign.specs.model import LoraSpec, ModelSpec
from dalign.toy.assets import toy_models
from dalign.train.probe import Probe

PROMPT = "where is the lantern kept ?"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    loaded = load_model(ModelSpec(name="t", id="toy", dtype="float32", lora=LoraSpec(r=4, alpha=8)), new_lora=True)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    loaded.save_adapter(folder)
    return folder


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_the_library_in_ten_lines(adapter: Path) -> None:
    student = api.load(str(toy_models(0) / "base"), adapter=adapter, dtype="float32")
    responses = api.sample(student, PROMPT, n=4, max_new_tokens=24)
    assert [r.index for r in responses] == [0, 1, 2, 3]
    assert responses == api.sample(student, PROMPT, n=4, max_new_tokens=24)
    scores = [api.score(student, r.prompt_ids, r.response_ids, layers=[0, 2]) for r in responses]
    assert all(s.layered["similarity"][0] == 1.0 or s.error for s in scores)
    values = [s.layered["similarity"][1] if not s.error else float("nan") for s in scores]
    best = api.select(values)
    assert values[best] == min(v for v in values if v == v)
    assert values[api.select(values, direction="argmax")] == max(v for v in values if v == v)
    with pytest.raises(ModelError, match="layers 0"):
        api.score(student, [5], [6], layers=[99])
    with pytest.raises(ValueError, match="no sample is finished"):
        api.select([0.1, 0.2], finished=[False, False])


@pytest.mark.parametrize("layer", [None, 1, 4])
def test_best_of_takes_what_sample_score_and_select_take(adapter: Path, layer: int | None) -> None:
    """Its scores start from states kept while sampling, one token at a time; those of ``score`` from whole passes."""
    student = api.load(str(toy_models(0) / "base"), adapter=adapter, dtype="float32")
    found = api.best_of(student, PROMPT, n=6, layer=layer, max_new_tokens=48)
    assert found.responses == api.sample(student, PROMPT, n=6, max_new_tokens=48)
    assert len({r.response_ids for r in found.responses}) > 1
    scored = [api.score(student, r.prompt_ids, r.response_ids, layers=[found.layer]) for r in found.responses]
    values = [s.layered["similarity"][0] if not s.error else float("nan") for s in scored]
    assert found.scores == pytest.approx(values, abs=1e-5, nan_ok=True)
    assert len(set(values)) > 1
    finished = [r.finished for r in found.responses]
    assert found.response == found.responses[api.select(values, finished=finished)]
    assert layer in (None, found.layer)


def test_best_of_refuses_a_layer_before_it_draws_and_samples_that_never_end(adapter: Path) -> None:
    student = api.load(str(toy_models(0) / "base"), adapter=adapter, dtype="float32")
    with pytest.raises(ModelError, match="layers 0"):
        api.best_of(student, PROMPT, layer=99, max_new_tokens=10**6)
    with pytest.raises(ValueError, match="no sample is finished"):
        api.best_of(student, PROMPT, n=2, max_new_tokens=1)


def test_score_reads_texts_and_ids_and_chooses(adapter: Path, tmp_path: Path) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}")
    one = {"prompt": PROMPT, "responses": ["in the cellar", {"text": "in the marsh", "finished": False}, ""]}
    two = {"prompt_ids": [5, 6, 7], "responses": [{"ids": [8, 9]}, {"ids": [10], "finished": True}]}
    path = lines(tmp_path / "in.jsonl", one, two)
    assert scoring.main(spec, path) == 0
    first, second = [json.loads(line) for line in Path(f"{path}.scores.jsonl").read_text().splitlines()]
    assert first["chosen"] == 0
    assert "empty response" in first["scores"][2]["error"]
    assert first["layer"] == second["layer"] > 0
    at = [s["layered"]["similarity"][second["layer"]] for s in second["scores"]]
    assert at[second["chosen"]] == min(at)
    assert set(second["scores"][0]["flat"]) >= {"kl", "ppl_base", "logp_ratio"}


def test_score_says_what_it_loads_and_keeps_its_output_apart(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lines(tmp_path / "in.jsonl", {"prompt": PROMPT, "responses": ["in the cellar"]})
    assert scoring.main(spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}"), path) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"loading toy with the adapter {adapter}\n")
    assert "loading" not in said.out
    assert "1 prompts scored" in said.out


def test_a_missing_adapter_is_told_in_words_of_the_library_and_of_a_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"^adapter={tmp_path}: no adapter_model.safetensors there"):
        api.load(str(toy_models(0) / "base"), adapter=tmp_path, dtype="float32")


def test_score_keeps_what_a_row_holds(adapter: Path, tmp_path: Path) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}", "attribution.layers=[3]")
    row = {"id": 7, "prompt": PROMPT, "responses": ["in the\u2028cellar"], "tags": {"of": ["a", None]}, "chosen": "x"}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert scoring.main(spec, path) == 0
    (line,) = Path(f"{path}.scores.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    assert list(found) == ["id", "prompt", "responses", "tags", "chosen", "selector", "layer", "scores"]
    assert {**found, "chosen": "x"} == {**found, **row}
    assert (found["chosen"], found["selector"], found["layer"]) == (0, "similarity", 3)
    similarity = found["scores"][0]["layered"]["similarity"]
    assert [value is None for value in similarity] == [layer != 3 for layer in range(len(similarity))]


def test_score_opens_the_reasoning_unless_a_row_says_there_is_none(adapter: Path, tmp_path: Path) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}", "attribution=similarity")
    chat = load_model(spec.model).chat
    texts = {"prompt": PROMPT, "responses": ["in the cellar"]}
    ids = [
        {"prompt_ids": chat.user_ids(PROMPT, think=think), "responses": ["in the cellar"]} for think in (True, False)
    ]
    path = lines(tmp_path / "in.jsonl", texts, {**texts, "think": True}, {**texts, "think": False}, *ids)
    assert scoring.main(spec, path) == 0
    default, opened, bare, *by_ids = [
        json.loads(line)["scores"] for line in Path(f"{path}.scores.jsonl").read_text().splitlines()
    ]
    assert default == opened == by_ids[0]
    assert bare == by_ids[1] != opened


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": PROMPT}, "responses must be a list"),
        ({"prompt": PROMPT, "prompt_ids": [5], "responses": ["x"]}, "either prompt"),
        ({"prompt_ids": [10**9], "responses": ["x"]}, "token ids from 0"),
        ({"prompt": PROMPT, "responses": [3]}, "response 0: must be a text"),
        ({"prompt": PROMPT, "responses": [{"text": "x", "finished": "yes"}]}, "finished"),
        ({"prompt": PROMPT, "responses": ["x"], "think": 0}, "think=0; it must be true or false"),
        ({"prompt": PROMPT, "responses": ["x"], "price": float("nan")}, "NaN or an infinity is no number of JSON"),
        ([1], "holds a JSON list"),
    ],
)
def test_score_names_file_and_line(adapter: Path, tmp_path: Path, row: object, told: str) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}")
    path = lines(tmp_path / "in.jsonl", {"prompt": PROMPT, "responses": ["fine"]}, row)
    with pytest.raises(DataError, match=told) as caught:
        scoring.main(spec, path)
    assert "in.jsonl:2" in str(caught.value)
    assert not Path(f"{path}.scores.jsonl").exists()


def test_score_of_an_empty_or_missing_file(adapter: Path, tmp_path: Path) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}")
    with pytest.raises(DataError, match="No such file"):
        scoring.main(spec, tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="holds no rows"):
        scoring.main(spec, lines(tmp_path / "empty.jsonl"))


def test_a_probe_can_be_the_headline(adapter: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", {"prompt": PROMPT, "responses": ["in the cellar", "in the marsh"]})
    choice = [f"inputs.adapter={adapter}", "selector=probe"]
    with pytest.raises(ArtifactError, match="run stage=probe"):
        scoring.main(spec_of("evaluate", tmp_path / "runs", *choice), path)
    model = load_model(ModelSpec(name="t", id="toy", dtype="float32"))
    shape = (model.n_layers + 1, model.width)
    torch.manual_seed(1)
    probe = Probe(torch.randn(shape) * 0.02, torch.zeros(shape[0]), torch.zeros(shape), torch.ones(shape))
    probe.save(tmp_path / "probe.safetensors")
    spec = spec_of("evaluate", tmp_path / "runs", *choice, f"inputs.probe={tmp_path / 'probe.safetensors'}")
    assert scoring.main(spec, path) == 0
    row = json.loads(Path(f"{path}.scores.jsonl").read_text())
    at = [s["layered"]["probe"][row["layer"]] for s in row["scores"]]
    assert at[row["chosen"]] == min(at)
    assert at[0] != at[1]


TRY = ("model.think.where=none", "sampler.n=6")


def tried(
    adapter: Path, runs: Path, capsys: pytest.CaptureFixture[str], *overrides: str, prompt: str = PROMPT
) -> list[dict[str, str]]:
    """The rows of the table that `dalign try` prints, without those that an answer's further lines take."""
    assert trial.main(spec_of("evaluate", runs, f"inputs.adapter={adapter}", *TRY, *overrides), prompt) == 0
    table = [re.split("[│┃]", line)[1:-1] for line in capsys.readouterr().out.splitlines() if line[:1] in "│┃"]
    head, *rows = [[cell.strip() for cell in row] for row in table]
    return [dict(zip(head, row, strict=True)) for row in rows if row[1]]


@pytest.mark.parametrize(
    ("overrides", "column", "falling"),
    [
        (["selector=kl"], "kl", True),
        (["selector=perplexity"], "ppl_student", False),
        (["selector=similarity"], "similarity", False),
        (["selector=similarity", "selector.direction=argmax"], "similarity", True),
        (["selector.score=longest"], "tokens", True),
        (["selector.score=shortest"], "tokens", False),
    ],
    ids=["kl", "perplexity", "similarity", "similarity argmax", "longest", "shortest"],
)
def test_try_shows_the_answers_best_first_and_the_choice(
    overrides: list[str],
    column: str,
    falling: bool,
    adapter: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tried(adapter, tmp_path / "runs", capsys, *overrides)
    assert {row["ended"] for row in rows} == {"stop"}
    values = [float(row[column]) for row in rows]
    assert len(set(values)) > 1
    assert values == sorted(values, reverse=falling)
    assert [row[""] for row in rows] == ["chosen", *[""] * 5]


def test_try_takes_the_first_or_any_sample(adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tried(adapter, tmp_path / "runs", capsys, "selector.score=first")
    assert [row["sample"] for row in rows] == list("012345")
    assert list(rows[0]) == ["", "sample", "tokens", "ended", "answer"]
    drawn = tried(adapter, tmp_path / "runs", capsys, "selector=random")
    assert sorted(row["sample"] for row in drawn) == list("012345")
    assert [row["sample"] for row in drawn] != list("012345")
    assert [row[""] for row in drawn] == ["chosen", *[""] * 5]
    assert drawn == tried(adapter, tmp_path / "runs", capsys, "selector=random")


def test_try_chooses_none_of_samples_that_never_end(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = ("inputs.adapter=" + str(adapter), *TRY, "sampler.max_new_tokens=1")
    assert trial.main(spec_of("evaluate", tmp_path / "runs", *cut), PROMPT) == 0
    shown = capsys.readouterr().out
    assert "no choice: no sample is finished" in shown
    assert "chosen" not in shown
    rows = tried(adapter, tmp_path / "runs", capsys, "sampler.max_new_tokens=1", "selector.require_finished=false")
    assert [row[""] for row in rows] == ["chosen", *[""] * 5]


def test_try_refuses_an_empty_prompt_and_names_the_missing_stage(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the prompt is empty"):
        trial.main(spec_of("evaluate", tmp_path / "runs"), " ")
    with pytest.raises(ArtifactError, match="run stage=distill first"):
        trial.main(spec_of("evaluate", tmp_path / "runs"), PROMPT)


SCORELESS = [("first", 1), ("shortest", 2), ("longest", 1), ("random", None), ("medoid", 3), ("refusal_vote", None)]


@pytest.mark.parametrize(("selector", "chosen"), SCORELESS)
def test_score_takes_selectors_that_are_no_scores(
    selector: str, chosen: int | None, adapter: Path, tmp_path: Path
) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}", f"selector.score={selector}")
    responses: list[object] = [{"text": "in", "finished": False}, "in the cellar of the", "in the", "in the cellar"]
    path = lines(
        tmp_path / "in.jsonl", *({"prompt_ids": [5, i], "responses": responses, "think": False} for i in range(5, 17))
    )
    assert scoring.main(spec, path) == 0
    found = [json.loads(line) for line in Path(f"{path}.scores.jsonl").read_text().splitlines()]
    assert {row["layer"] for row in found} == {None}
    taken = {row["chosen"] for row in found}
    assert taken == ({1, 2, 3} if chosen is None else {chosen})


def test_score_chooses_by_a_band_and_by_refusals(adapter: Path, tmp_path: Path) -> None:
    responses = ["in the cellar of the", "in the", "so i must refuse .", "in the cellar"]
    path = lines(tmp_path / "in.jsonl", {"prompt": PROMPT, "responses": responses, "think": False})

    def row(*overrides: str) -> dict[str, Any]:
        assert scoring.main(spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}", *overrides), path) == 0
        return dict(json.loads(Path(f"{path}.scores.jsonl").read_text()))

    found = row("selector.layer=[1,3]", "attribution.flat=[]")
    means = [sum(score["layered"]["similarity"][1:4]) / 3 for score in found["scores"]]
    assert (found["layer"], found["chosen"]) == (None, means.index(min(means)))
    assert row("selector=refusal", "attribution.flat=[]")["chosen"] == 2
    lacking = row("attribution=readouts", "selector=distance")["scores"][0]
    assert "no closing tag" in lacking["lacking"]["similarity_think"]
    assert set(lacking["layered"]["similarity_think"]) == {None}


def test_score_refuses_a_layer_that_has_no_scores(adapter: Path, tmp_path: Path) -> None:
    spec = spec_of("evaluate", tmp_path / "runs", f"inputs.adapter={adapter}", "selector.layer=99")
    with pytest.raises(ConfigError, match=r"selector\.layer=99: this model has hidden states 0"):
        scoring.main(spec, lines(tmp_path / "in.jsonl", {"prompt": PROMPT, "responses": ["in the cellar"]}))
