"""Sweeps: which jobs a command line asks for, and which folder each one gets."""

from __future__ import annotations

import re

import pytest

from dalign.config import check, in_sweep
from dalign.errors import ConfigError
from dalign.specs.run import RunSpec


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return check("evaluate", ["run=study"])[0]


def test_a_job_is_named_after_what_varies_sorted() -> None:
    specs = check("train", ["-m", "run=study", "stage=distill", "seed=0,1", "model.lora.r=8,16", "limit=5"])
    assert [s.run for s in specs] == [
        "study/model.lora.r=8,seed=0",
        "study/model.lora.r=16,seed=0",
        "study/model.lora.r=8,seed=1",
        "study/model.lora.r=16,seed=1",
    ]
    assert [(s.seed, s.model.lora.r) for s in specs] == [(0, 8), (0, 16), (1, 8), (1, 16)]


def test_stages_and_benchmarks_of_one_run_share_its_folder() -> None:
    specs = check("evaluate", ["-m", "run=study", "benchmark=[toy_dan],[toy_mmlu]"])
    assert [s.run for s in specs] == ["study", "study"]


def test_a_group_is_swept_over_and_a_range_and_a_glob() -> None:
    assert [s.model.name for s in check("evaluate", ["-m", "model=toy,smollm2_135m"])] == ["toy", "smollm2_135m"]
    assert [s.seed for s in check("evaluate", ["-m", "seed=range(3)"])] == [0, 1, 2]
    assert [s.selector.name for s in check("evaluate", ["-m", "selector=glob(k*)"])] == ["kl"]


def test_a_fault_in_one_job_is_told_once_before_any_runs() -> None:
    with pytest.raises(ConfigError) as caught:
        check("evaluate", ["-m", "model=toy,toi", "seed=0,x", "model.lora.r=interval(1,2)"])
    texts = [text.partition(":")[0] for text in caught.value.problems]
    assert texts == ["model.lora.r=interval(1,2)", "seed=x", "model=toi"]


@pytest.mark.parametrize("value", ["a b", "'x/y'", "[1,2]", "x" * 200, "/abs/path"])
def test_a_folder_name_is_always_one_that_a_run_may_have(spec: RunSpec, value: str) -> None:
    job = [f"++model.id={value}"]
    moved = in_sweep(spec, job, {"++model.id"})
    assert RunSpec.model_validate(moved.model_dump()).run.startswith("study/model.id=")
    assert len(moved.run.rpartition("/")[2]) <= 130


def test_two_values_that_look_alike_once_cleaned_get_two_folders(spec: RunSpec) -> None:
    names = {in_sweep(spec, [f"++model.id={value}"], {"++model.id"}).run for value in ("a b", "a-b", "a/b")}
    assert len(names) == 3
    assert all(re.fullmatch(r"study/model\.id=a-b(-[0-9a-f]{8})?", name) for name in names)


def test_only_what_has_several_values_names_the_folder(spec: RunSpec) -> None:
    assert in_sweep(spec, ["++seed=3", "++limit=5"], {"++seed"}).run == "study/seed=3"
    assert in_sweep(spec, ["++seed=3"], frozenset()) == spec
