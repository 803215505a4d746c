"""Which training prompts make a refusal direction, and that it is the difference of their own states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dalign.attribute.states import before_response, read_states
from dalign.config import check
from dalign.errors import DataError
from dalign.models import load_model
from dalign.prompts import load_dataset
from dalign.specs.run import RunSpec
from dalign.specs.stage import ProbeStage
from dalign.stages.probe_direction import direction_prompts, read_directions

STAGE = ProbeStage(methods=("refusal_direction",), direction_prompts=8)


def spec_of(*overrides: str) -> RunSpec:
    (spec,) = check("train", ["stage=probe", "model.dtype=float32", *overrides])
    return spec


def test_as_many_of_both_kinds_of_requests_and_neither_sums_nor_choices() -> None:
    spec = spec_of()
    found = direction_prompts(spec, STAGE)
    assert [p.kind for p in found] == ["harmful"] * 8 + ["benign"] * 8
    assert len({p.id for p in found}) == 16
    every = {p.id for p in load_dataset(spec.dataset, paths=spec.paths, world_seed=spec.world_seed)}
    assert {p.id for p in found} < every
    whole = direction_prompts(spec, STAGE.model_copy(update={"direction_prompts": 10_000}))
    assert {p.kind for p in whole} == {"harmful", "benign"}
    assert len(whole) < len(every)


def test_a_set_without_a_kind_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [{"question": f"how is lamp {i} lit", "categories": ["Illicit / Criminal Behavior"]} for i in range(3)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    spec = spec_of("dataset=local", f"dataset.path={file}")
    with pytest.raises(DataError, match=r"dataset=local has no benign prompt.*name a data set with both"):
        direction_prompts(spec, STAGE)


def test_it_is_the_difference_of_the_models_own_states_at_the_prompts_last_token() -> None:
    spec = spec_of()
    prompts = direction_prompts(spec, STAGE)
    loaded = load_model(spec.model)
    found = read_directions(spec, loaded, prompts, ["base"])["base"].direction_LD
    pairs = [before_response(loaded.chat.user_ids(p.text, think=True)) for p in prompts]
    states_PLD = read_states(loaded, pairs, position="content", token_budget=8192, student=False)[0].double()
    apart_LD = states_PLD[:8].mean(0) - states_PLD[8:].mean(0)
    assert found[0].abs().max() == 0, "every prompt ends with the same token"
    expected = apart_LD[1:] / apart_LD[1:].norm(dim=1, keepdim=True)
    torch.testing.assert_close(found[1:], expected.float(), atol=1e-5, rtol=1e-5)
    assert read_directions(spec, loaded, (), []) == {}, "nothing asked, nothing read"


def test_a_kind_without_states_leaves_nothing_to_compare() -> None:
    spec = spec_of()
    prompts = [p for p in direction_prompts(spec, STAGE) if p.kind == "harmful"]
    with pytest.raises(DataError, match="none fits the model's context; name another"):
        read_directions(spec, load_model(spec.model), prompts, ["base"])
