"""What the library says to bad input: the project's own errors, one readable line a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dalign import api
from dalign.errors import ConfigError, ModelError
from dalign.models import LoadedModel, load_model
from dalign.specs.model import LoraSpec, ModelSpec
from dalign.specs.sampling import LAYERED
from dalign.toy.assets import toy_models

BASE = toy_models(0) / "base"
KNOWN = ", ".join(sorted(LAYERED))


@pytest.fixture(scope="module")
def student() -> LoadedModel:
    torch.manual_seed(0)
    return load_model(ModelSpec(name="t", id="toy", dtype="float32", lora=LoraSpec(r=4, alpha=8)), new_lora=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dtyp": "float32"}, ["dtyp=float32: unknown key 'dtyp'; did you mean 'dtype'?"]),
        (
            {"dtype": "float23", "lora": {"r": 0}, "think": 3},
            [
                "dtype=float23: did you mean 'float32'? (known: float32, bfloat16, float16)",
                "think=3: a node stands here, not a value",
                "lora.r=0: must be greater than 0",
            ],
        ),
    ],
)
def test_options_that_the_spec_does_not_take(options: dict[str, Any], told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        api.load(str(BASE), **options)
    assert list(caught.value.problems) == told


@pytest.mark.parametrize("name", ["/nope", "./nope", "../nope", "a/b/c", "/nope/x.gguf", "x.gguf"])
def test_a_path_that_is_not_there_is_told_as_one(name: str) -> None:
    with pytest.raises(ModelError, match=r"no such file or folder; mend the path, or name a hub id \(OWNER/NAME\)$"):
        api.load(name)


def test_a_path_may_be_a_path() -> None:
    assert api.load(BASE, dtype="float32").spec.name == "base"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m: api.sample(m, "where ?", n=0), "n=0: must be greater than 0"),
        (lambda m: api.score(m, [5], [6], layers=[]), "layers=(): at least 1 must be named"),
        (lambda m: api.score(m, [5], [6], layers=[-1]), "layers=-1: must be greater than or equal to 0"),
        (lambda m: api.score(m, [5], [6], layered=["kl"]), f"layered=kl: known: {KNOWN}"),
        (lambda m: api.best_of(m, "where ?", by="kl"), f"by=kl: no score with layers; known: {KNOWN}"),
        (lambda m: api.best_of(m, "where ?", n=0), "n=0: must be greater than 0"),
    ],
)
def test_values_out_of_range(call: Callable[[LoadedModel], object], told: str, student: LoadedModel) -> None:
    with pytest.raises(ConfigError) as caught:
        call(student)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m, i: api.sample(m, [5, i]), "prompt"),
        (lambda m, i: api.best_of(m, [i]), "prompt"),
        (lambda m, i: api.score(m, [5, i], [6]), "prompt_ids"),
        (lambda m, i: api.score(m, [5], [i]), "response_ids"),
    ],
)
@pytest.mark.parametrize("below_zero", [True, False])
def test_ids_that_the_model_has_not(
    call: Callable[[LoadedModel, int], object], told: str, below_zero: bool, student: LoadedModel
) -> None:
    rows = student.model.get_input_embeddings().weight.shape[0]
    wrong = -1 if below_zero else rows
    with pytest.raises(ModelError, match=f"^{told}: no id {wrong} in this model, whose ids are 0 to {rows - 1}$"):
        call(student, wrong)


def test_ids_may_be_of_numpy_or_torch(student: LoadedModel) -> None:
    plain = api.score(student, [5, 6], [7, 8])
    assert api.score(student, np.array([5, 6]), torch.tensor([7, 8])) == plain  # type: ignore[arg-type]
    drawn = api.sample(student, np.array([5, 6]), n=1, max_new_tokens=2)  # type: ignore[arg-type]
    assert drawn == api.sample(student, [5, 6], n=1, max_new_tokens=2)


def test_best_of_wants_something_to_attribute_to() -> None:
    bare = api.load(BASE, dtype="float32")
    with pytest.raises(ModelError, match=r"^base: nothing to attribute to; load it with adapter= or base=$"):
        api.best_of(bare, "where ?", max_new_tokens=10**6)
    paired = api.load(BASE, base=str(BASE), dtype="float32")
    assert len(api.best_of(paired, "where ?", n=2, max_new_tokens=64, think=False).scores) == 2


def test_select_wants_as_many_finished_as_scores() -> None:
    with pytest.raises(ValueError, match=r"^3 scores and 1 finished"):
        api.select([0.3, 0.1, 0.2], finished=[True])
    with pytest.raises(ValueError, match=r"^there are no scores"):
        api.select([])
    assert api.select(np.array([0.3, 0.1, 0.2])) == 1  # type: ignore[arg-type]
