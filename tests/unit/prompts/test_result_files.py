"""Files in the shape of the authors', made of the embedded world: read whole, or refused by file and line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dalign.errors import DataError
from dalign.prompts.result_files import SEPARATOR, SIMILARITY, benchmark_of, joined, read_result_file
from dalign.toy.world import World

PROMPTS = [p.text for p in World.of(0).prompts("toy_dan")[:3]]


def table(path: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])
    return path


def cell(*items: object) -> str:
    return SEPARATOR.join(map(str, items))


def safety(folder: Path, **changed: str) -> Path:
    """Three prompts of two responses; ``changed`` are cells of the second row."""
    rows = [{"prompt": p, "response": cell("i will not\nhelp", "take the wool"), "label": cell(1, 0)} for p in PROMPTS]
    rows[1] |= changed
    return table(folder / "mulit_generation_DAN.csv", list(rows[0]), [list(r.values()) for r in rows])


def similarity(folder: Path, **changed: str) -> Path:
    values = cell("1.0_0.98_1e-05", "1.0_-3.5e-2_0.25")
    rows = [
        {"prompt": p, "response": cell("i will not\nhelp", "take the wool"), "label": cell(1, 0), SIMILARITY: values}
        for p in PROMPTS
    ]
    rows[1] |= changed
    name = "mulit_generation_self_base_embedding_similarity_DAN.csv"
    return table(folder / name, list(rows[0]), [list(r.values()) for r in rows])


def test_a_safety_file_and_its_similarities(tmp_path: Path) -> None:
    found = joined([read_result_file(safety(tmp_path)), read_result_file(similarity(tmp_path))])
    assert found.kind == "harmful"
    assert [row.prompt for row in found.rows] == PROMPTS
    assert found.rows[2].responses == ("i will not\nhelp", "take the wool")
    assert found.rows[2].unsafe == (False, True)
    assert found.rows[2].similarity_NL == ((1.0, 0.98, 1e-05), (1.0, -0.035, 0.25))


@pytest.mark.parametrize("make", [safety, similarity])
def test_either_file_alone_is_enough(make: Callable[[Path], Path], tmp_path: Path) -> None:
    found = joined([read_result_file(make(tmp_path))])
    assert (found.rows[0].similarity_NL is None) == (make is safety)
    assert found.rows[0].unsafe == (False, True)


def test_gsm8k_has_a_golden_answer_and_no_label(tmp_path: Path) -> None:
    golden = cell(*["so 2 + 2 is\n#### 4"] * 2)
    rows = [[p.text, cell("#### 4", "18 ."), golden] for p in World.of(0).prompts("toy_gsm8k")[:2]]
    path = table(tmp_path / "mulit_generation_GSM8K.csv", ["prompt", "response", "golden_answer"], rows)
    found = joined([read_result_file(path)])
    assert (found.kind, found.rows[0].gold, found.rows[0].responses) == ("math", "4", ("#### 4", "18 ."))


def test_mmlu_has_its_responses_in_category_and_its_subjects_in_response(tmp_path: Path) -> None:
    prompts = World.of(0).prompts("toy_mmlu")[:2]
    head = ["prompt", "response", "category", "golden_answer"]
    rows = [[p.text, "anatomy", cell("answer: a", "answer: b"), str(p.reference)] for p in prompts]
    rows[1][3] = prompts[1].text.split()[-3]  # what the choice c says, in the place of its letter
    found = joined([read_result_file(table(tmp_path / "mulit_generation_MMLU.csv", head, rows))])
    assert (found.kind, found.rows[0].subset, found.rows[0].responses) == (
        "choice",
        "anatomy",
        ("answer: a", "answer: b"),
    )
    assert [row.gold for row in found.rows] == [str(prompts[0].reference).upper(), "C"]


def test_similarities_without_gold_answers_need_the_other_file(tmp_path: Path) -> None:
    prompt = World.of(0).prompts("toy_gsm8k")[0].text
    path = table(
        tmp_path / "mulit_generation_self_base_embedding_similarity_GSM8K.csv",
        ["prompt", "response", SIMILARITY],
        [[prompt, cell("4", "5"), cell("1.0_0.5", "1.0_0.4")]],
    )
    with pytest.raises(DataError, match="neither labels nor gold answers"):
        joined([read_result_file(path)])
    answers = table(tmp_path / "a.csv", ["prompt", "response", "golden_answer"], [[prompt, cell("4", "5"), "4"]])
    found = joined([read_result_file(path), read_result_file(answers)])
    assert (found.rows[0].gold, found.rows[0].similarity_NL) == ("4", ((1.0, 0.5), (1.0, 0.4)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"label": cell(1)}, "1 items in column 'label', and 2 responses"),
        ({"label": cell(1, 2)}, "label '2'; 1 (safe) or 0 (unsafe) is expected"),
        ({"label": cell(1, "")}, "label ''; 1 (safe)"),
        ({"response": cell("a", "b", "c"), "label": cell(1, 0, 1)}, "3 responses, and"),
        ({"prompt": cell("a", "b")}, "column 'prompt' holds 2 different items"),
        ({"prompt": " "}, "column 'prompt' is empty"),
    ],
)
def test_a_row_that_is_refused_is_named_by_file_and_line(changed: dict[str, str], told: str, tmp_path: Path) -> None:
    path = safety(tmp_path, **changed)
    with pytest.raises(DataError) as caught:
        read_result_file(path)
    assert told in str(caught.value)
    assert f"{path}:4:" in str(caught.value)  # the first row's response has a line break
    assert "1 rows are refused, and nothing is imported" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (cell("1.0_0.98_1e-05"), "1 items in column"),
        (cell("1.0_0.98_1e-05", "1.0_0.98"), "similarities of 2 and 3 layers"),
        (cell("1.0_0.98_nan", "1.0_0.9_0.9"), "'nan' is no cosine"),
        (cell("1.0_0.98_", "1.0_0.9_0.9"), "'' is no cosine"),
        (cell("1.0__0.98", "1.0_0.9_0.9"), "'' is no cosine"),
        (cell("1.0_12_0.98", "1.0_0.9_0.9"), "'12' is no cosine"),
        (cell("1.0_1e-05.5_1", "1.0_0.9_0.9"), "'1e-05.5' is no cosine"),
    ],
)
def test_a_similarity_that_is_none_is_refused(values: str, told: str, tmp_path: Path) -> None:
    path = similarity(tmp_path, **{SIMILARITY: values})
    with pytest.raises(DataError) as caught:
        read_result_file(path)
    assert told in str(caught.value)
    assert f"{path}:4:" in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"prompt": "where is the barn ?"}, "another prompt than"),
        ({"response": cell("x", "y")}, "another response than"),
        ({"label": cell(0, 1)}, "column of unsafe differs"),
    ],
)
def test_two_files_that_contradict_one_another_are_refused(changed: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told) as caught:
        joined([read_result_file(safety(tmp_path)), read_result_file(similarity(tmp_path, **changed))])
    assert "similarity_DAN.csv:4:" in str(caught.value)


def test_files_of_different_length_or_columns_are_refused(tmp_path: Path) -> None:
    short = table(tmp_path / "s.csv", ["prompt", "response", "label"], [[PROMPTS[0], "x", "1"]])
    with pytest.raises(DataError, match=r"1 harmful rows, and .* has 3"):
        joined([read_result_file(safety(tmp_path)), read_result_file(short)])
    with pytest.raises(DataError, match="not the columns of a result file"):
        read_result_file(table(tmp_path / "o.csv", ["prompt", "response"], [["a", "b"]]))


def test_all_refused_rows_are_told(tmp_path: Path) -> None:
    rows = [[p, "x", "3"] for p in PROMPTS]
    with pytest.raises(DataError, match="3 rows are refused") as caught:
        read_result_file(table(tmp_path / "s.csv", ["prompt", "response", "label"], rows))
    assert [f"s.csv:{i}:" in str(caught.value) for i in (2, 3, 4)] == [True] * 3


def test_the_name_tells_the_benchmark() -> None:
    assert benchmark_of(Path("a/mulit_generation_DAN.csv")) == "dan"
    assert benchmark_of(Path("mulit_generation_self_base_embedding_similarity_wildjailbreak.csv")) == "wildjailbreak"
    with pytest.raises(DataError, match="--benchmark NAME"):
        benchmark_of(Path("results.csv"))
