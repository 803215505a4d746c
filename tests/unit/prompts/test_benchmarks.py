"""A benchmark from a file of each kind: ids, groups, kinds, references, counts, and what is said if they are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dalign.errors import DataError
from dalign.prompts import load_benchmark
from dalign.prompts.benchmarks import gold_letter, gold_number
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import PathsSpec

MIXED = "id,prompt,type,label\n1,knit a scarf,wool,safe\n2,knit a net,contrast_wool,unsafe\n3,Knit a scarf!,wool,safe\n"


def load(folder: Path, limit: int | None = None, **fields: Any) -> Any:
    spec = BenchmarkSpec(**{"name": "made_up", "format": "csv", "kind": "harmful", "roles": ("harm",), **fields})
    return load_benchmark(spec, paths=PathsSpec(data=str(folder)), world_seed=0, limit=limit)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    (tmp_path / "mixed.csv").write_text(MIXED)
    return tmp_path


def test_row_id_subset_kind_and_groups(mixed: Path) -> None:
    prompts = load(
        mixed,
        path="mixed.csv",
        kind="benign",
        row_id="id",
        subset="label",
        group=("type+#type",),
        group_alias={"contrast_wool": "wool"},
        harmful_when={"label": ("unsafe",)},
    )
    assert [(p.row, p.kind, p.subset, p.group) for p in prompts] == [
        ("1", "benign", "safe", "1"),
        ("2", "harmful", "unsafe", "1"),
        ("3", "benign", "safe", "1"),  # equal text but for case and marks
    ]
    assert len({p.id for p in prompts}) == 3
    assert {p.dataset for p in prompts} == {"made_up"}


def test_where_keeps_rows_and_source_ids(mixed: Path) -> None:
    prompts = load(mixed, path="mixed.csv", where={"label": ("safe",)}, expected_rows=2)
    assert [(p.row, p.text) for p in prompts] == [("0", "knit a scarf"), ("2", "Knit a scarf!")]


def test_instruction_stands_below_the_prompt(mixed: Path) -> None:
    assert load(mixed, path="mixed.csv", instruction="Be brief.")[0].text == "knit a scarf\n\nBe brief."


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"path": "nowhere.csv"}, r"benchmark\.made_up\.path=nowhere\.csv: no such file(.|\n)*paths\.data="),
        ({"path": None}, r"benchmark\.made_up: has neither a path nor a hub id"),
        ({"path": "mixed.csv", "text": "promt"}, "no column 'promt'; did you mean 'prompt'"),
        ({"path": "mixed.csv", "subset": "labels"}, "no column 'labels'; did you mean 'label'"),
        ({"path": "mixed.csv", "expected_rows": 4}, r"3 rows where 4 are expected.*expected_rows=null"),
        ({"path": "mixed.csv", "where": {"label": ("Safe",)}}, "keeps none of 3 rows; label reads 'safe', 'unsafe'"),
        ({"path": "mixed.csv", "harmful_when": {"label": ("Unsafe",)}}, "fits no row; label reads 'safe', 'unsafe'"),
        ({"path": "mixed.csv", "row_id": "type"}, "row id 'wool' stands at .*mixed.csv:2 already"),
        ({"path": "mixed.csv", "kind": "math"}, r"benchmark\.made_up\.reference"),
        ({"path": "mixed.csv", "kind": "math", "reference": "type"}, "'wool' is no number"),
        ({"path": "mixed.csv", "category": "type"}, "unknown category 'wool'"),
        ({"path": "mixed.csv", "format": "mmlu"}, r"no <subject>_test\.csv"),
        ({"path": ".", "format": "csv"}, "is a folder, a file is needed"),
    ],
)
def test_what_does_not_fit_is_said_with_its_key(mixed: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        load(mixed, **fields)


def test_limit_comes_after_the_count_and_balances_subsets(tmp_path: Path) -> None:
    rows = [f"prompt {i},{'many' if i < 90 else 'few'}" for i in range(100)]
    (tmp_path / "a.csv").write_text("prompt,part\n" + "\n".join(rows))
    prompts = load(tmp_path, limit=20, path="a.csv", subset="part", expected_rows=100)
    assert [sum(p.subset == s for p in prompts) for s in ("many", "few")] == [10, 10]
    assert [p.row for p in prompts[:3]] == ["4", "13", "22"]
    assert prompts == load(tmp_path, limit=20, path="a.csv", subset="part")


def test_gsm8k_gold_is_what_follows_the_hashes(tmp_path: Path) -> None:
    (tmp_path / "g.jsonl").write_text('{"question": "how many?", "answer": "9 * 2 = <<9*2=18>>18\\n#### 1,018"}\n')
    prompts = load(tmp_path, path="g.jsonl", format="jsonl", kind="math", text="question", reference="answer")
    assert prompts[0].reference == "1018"
    assert gold_number("#### $-3.50", "f:1") == "-3.50"
    for bad in ("#### seven", "nan", "Infinity", "1e5", ""):
        with pytest.raises(DataError, match="f:1: the gold answer"):
            gold_number(bad, "f:1")


def test_choice_gold_is_a_letter_or_its_number() -> None:
    assert [gold_letter(x, "f:1") for x in ("a", " D ", "0", "3")] == ["A", "D", "A", "D"]
    for bad in ("E", "4", "", "AB"):
        with pytest.raises(DataError):
            gold_letter(bad, "f:1")


def mmlu(folder: Path, **files: str) -> Path:
    (folder / "mmlu/test").mkdir(parents=True)
    for subject, text in files.items():
        (folder / f"mmlu/test/{subject}_test.csv").write_text(text)
    return folder


def test_mmlu_cells_that_read_none_stay_text(tmp_path: Path) -> None:
    mmlu(tmp_path, tailoring='"What, then?",None,wool,"a, b",silk,A\n', cooking="Salt?,1,2,3,4,D\n")
    prompts = load(tmp_path, path="mmlu", format="mmlu", kind="choice", subjects=("tailoring", "cooking"))
    assert prompts[0].text == "What, then?\nA. None\nB. wool\nC. a, b\nD. silk"
    assert [(p.row, p.subset, p.reference) for p in prompts] == [
        ("tailoring/0", "tailoring", "A"),
        ("cooking/0", "cooking", "D"),
    ]
    everything = load(tmp_path, path="mmlu", format="mmlu", kind="choice")
    assert [p.subset for p in everything] == ["cooking", "tailoring"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Q,1,2,3,4\n", "5 cells, MMLU has 6"),
        ("Q,1,2,3,4,E\n", "one of A, B, C, D"),
        (",1,2,3,4,A\n", "empty"),
        ("", "no rows"),
    ],
)
def test_mmlu_row_that_does_not_fit(tmp_path: Path, text: str, says: str) -> None:
    mmlu(tmp_path, cooking=text)
    with pytest.raises(DataError, match=says):
        load(tmp_path, path="mmlu", format="mmlu", kind="choice")


def test_mmlu_unknown_subject_suggests_the_nearest(tmp_path: Path) -> None:
    mmlu(tmp_path, cooking="Q,1,2,3,4,A\n")
    with pytest.raises(DataError, match="did you mean 'cooking'"):
        load(tmp_path, path="mmlu", format="mmlu", kind="choice", subjects=("coking",))


def test_toy_sets_come_from_the_world_and_a_misspelt_one_is_told() -> None:
    spec = BenchmarkSpec(name="toy_xstest", format="toy", kind="benign", roles=("refusal",))
    prompts = load_benchmark(spec, paths=PathsSpec(), world_seed=0, limit=10)
    assert {(p.dataset, p.kind) for p in prompts} == {("toy_xstest", "benign"), ("toy_xstest", "harmful")}
    assert sum(p.kind == "harmful" for p in prompts) == 5
    wrong = spec.model_copy(update={"name": "toy_xtest"})
    with pytest.raises(DataError, match="did you mean 'toy_xstest'"):
        load_benchmark(wrong, paths=PathsSpec(), world_seed=0)


def test_paper_error_2_no_two_benchmarks_share_a_prompt_id(mixed: Path) -> None:
    """One global list of prompts was rebound per benchmark: with ids, another benchmark's prompts cannot pass."""
    first, second = load(mixed, path="mixed.csv"), load(mixed, path="mixed.csv", name="other")
    assert [p.text for p in first] == [p.text for p in second]
    assert not {p.id for p in first} & {p.id for p in second}


def test_where_the_hub_has_a_benchmark_is_no_part_of_its_results() -> None:
    """Runs made before an entry named the hub go on; their prompts are hashed among the inputs."""
    spec = BenchmarkSpec(name="b", format="csv", kind="harmful", roles=("harm",), path="b.csv")
    named = spec.model_copy(update={"hub_id": "owner/b", "revision": "0" * 40, "hub_file": "b.csv"})
    assert named.results() == spec.results()
    assert spec.model_copy(update={"text": "goal"}).results() != spec.results()
