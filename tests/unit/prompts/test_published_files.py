"""The real files of the benchmarks load with their published counts. Skipped where they are not at hand.

They are looked for in the folder that ``DALIGN_DATA`` names, else in ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
import yaml

from dalign.prompts import load_benchmark, load_dataset, load_traces
from dalign.records import Prompt
from dalign.specs.data import BenchmarkSpec, DatasetSpec
from dalign.specs.run import PathsSpec

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("DALIGN_DATA", ROOT.parent / "shared" / "data"))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no benchmark files at {DATA} (set DALIGN_DATA)")


def load(name: str, limit: int | None = None) -> tuple[Prompt, ...]:
    entry = yaml.safe_load((ROOT / f"conf/benchmark/{name}.yaml").read_text())
    entry.pop("_target_")
    return load_benchmark(BenchmarkSpec(**entry), paths=PathsSpec(data=str(DATA)), world_seed=0, limit=limit)


def test_strongreject_has_six_subsets() -> None:
    prompts = load("strongreject")
    assert len(prompts) == 313
    assert sorted(Counter(p.subset for p in prompts).values()) == [50, 50, 50, 50, 54, 59]
    assert {p.kind for p in prompts} == {"harmful"}


def test_xstest_pairs_each_contrast_with_its_safe_prompt() -> None:
    prompts = load("xstest")
    assert Counter(p.kind for p in prompts) == {"benign": 250, "harmful": 200}
    groups: dict[str, set[str]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.group, set()).add(prompt.subset)
    assert all("safe" in groups[p.group] for p in prompts if p.kind == "harmful")
    by_id = {p.row: p for p in prompts}
    assert by_id["1"].group == by_id["26"].group != by_id["2"].group  # first homonym, its contrast, the second
    assert by_id["326"].group == by_id["351"].group  # paired by position: these rows name no focus


def test_gsm8k_golds_are_numbers() -> None:
    prompts = load("gsm8k")
    assert len(prompts) == 1319
    assert prompts[0].reference == "18"
    assert all(p.text.endswith('"####".') for p in prompts)


def test_mmlu_subjects_have_their_published_sizes() -> None:
    prompts = load("mmlu")
    sizes = {
        "abstract_algebra": 100,
        "computer_security": 100,
        "business_ethics": 100,
        "high_school_chemistry": 203,
        "college_physics": 102,
        "anatomy": 135,
        "machine_learning": 112,
        "econometrics": 114,
    }
    assert Counter(p.subset for p in prompts) == sizes
    assert {p.reference for p in prompts} == set("ABCD")
    assert any("\nD. None" in p.text or ". None\n" in p.text for p in prompts)
    assert Counter(p.subset for p in load("mmlu", limit=16)) == dict.fromkeys(sizes, 2)


def test_advbench_has_an_empty_header_and_pairs_fifty() -> None:
    prompts = load("advbench_pair")
    assert len(prompts) == len({p.row for p in prompts}) == 50


def test_star1_traces_are_closed_and_labelled() -> None:
    entry = yaml.safe_load((ROOT / "conf/dataset/star1.yaml").read_text())
    entry.pop("_target_")
    spec, paths = DatasetSpec(**entry), PathsSpec(data=str(DATA))
    traces = load_traces(spec, paths=paths)
    assert len(traces) == 1000
    assert not any(t.dropped for t in traces)
    assert Counter(c for t in traces for c in t.categories)["Self-Harm"] == 85
    assert [p.id for p in load_dataset(spec, paths=paths, world_seed=0, limit=5)] == [
        t.prompt_id for t in load_traces(spec, paths=paths, limit=5)
    ]
