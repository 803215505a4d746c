"""Training prompts and ready-made traces of each format, and every fault of a user's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dalign.categories import BENIGN, CATEGORIES, categories_of
from dalign.errors import DataError
from dalign.prompts import load_dataset, load_traces, read_traces
from dalign.prompts.training import UNCLOSED, split_response
from dalign.records import Trace
from dalign.specs.data import DatasetSpec
from dalign.specs.run import PathsSpec

PATHS = PathsSpec()
ROW = {"question": "may i knit?", "categories": ["benign"], "reasoning": "no law speaks of it", "answer": "yes"}


def local(folder: Path, *lines: object, has_traces: bool = True, **fields: Any) -> DatasetSpec:
    path = folder / "rows.jsonl"
    path.write_text("".join(x if isinstance(x, str) else json.dumps(x) + "\n" for x in lines))
    return DatasetSpec(**{"name": "local", "format": "jsonl", "path": str(path), "has_traces": has_traces, **fields})


def test_star1_with_categories_as_text_and_as_list(tmp_path: Path) -> None:
    rows = [
        {
            "id": "7",
            "question": "Q1",
            "category": "['Self-Harm', 'Sexual / Adult']",
            "response": "<think>\nso\n</think>\n\nA1",
        },
        {"id": "9", "question": "q1!", "category": ["Self-Harm"], "response": "<think>x</think>A2</think>B"},
    ]
    (tmp_path / "s.json").write_text(json.dumps(rows))
    spec = DatasetSpec(name="star1", format="star1", path="s.json", has_traces=True)
    traces = load_traces(spec, paths=PathsSpec(data=str(tmp_path)))
    assert [(t.row, t.categories, t.reasoning, t.answer, t.dropped) for t in traces] == [
        ("7", ("Self-Harm", "Sexual / Adult"), "so", "A1", ""),
        ("9", ("Self-Harm",), "x", "A2</think>B", ""),  # reasoning ends at the first closing tag
    ]
    prompts = load_dataset(spec, paths=PathsSpec(data=str(tmp_path)), world_seed=0)
    assert [t.prompt_id for t in traces] == [p.id for p in prompts]
    assert [p.group for p in prompts] == ["7", "7"]
    assert [p.kind for p in prompts] == ["harmful", "harmful"]


def test_paper_error_8_unknown_category_is_an_error_not_harassment(tmp_path: Path) -> None:
    spec = local(tmp_path, ROW, {**ROW, "categories": ["Harrassment"]})
    with pytest.raises(DataError, match="unknown category 'Harrassment'") as caught:
        load_traces(spec, paths=PATHS)
    assert "rows.jsonl:2" in str(caught.value)
    assert all(label in str(caught.value) for label in (*CATEGORIES, BENIGN))


def test_category_labels_are_those_of_the_embedded_world() -> None:
    from dalign.toy import language

    assert (language.CATEGORIES, language.BENIGN) == (CATEGORIES, BENIGN)


def test_category_cells() -> None:
    assert categories_of("['Self-Harm', 'Self-Harm']", "f:1") == ("Self-Harm",)
    assert categories_of(" self-harm ", "f:1") == ("Self-Harm",)
    assert categories_of(["benign"], "f:1") == ("benign",)
    for bad, says in [
        ("[__import__('os').getcwd()]", "starts a list but is none"),
        ("[{[]: 1}]", "starts a list but is none"),
        ("['Self-Harm'", "starts a list but is none"),
        ([], "no category"),
        ("", "no category"),
        (None, "must be a list"),
        ([3], "must be a list"),
    ]:
        with pytest.raises(DataError, match=says):
            categories_of(bad, "f:1")


def test_published_sets_keep_unfinished_draws_for_the_filter(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "category": ["benign"], "prompt": "...", "response": r}
        for r in ("so</think>yes", "so on and", "so</think>", "")
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    traces = load_traces(
        DatasetSpec(name="p", format="published", path=str(tmp_path / "p.json"), has_traces=True), paths=PATHS
    )
    assert [(t.reasoning, t.answer, t.dropped) for t in traces] == [
        ("so", "yes", ""),
        ("so on and", "", UNCLOSED),
        ("so", "", ""),
        ("", "", UNCLOSED),
    ]


@pytest.mark.parametrize(
    ("lines", "where", "says"),
    [
        ((ROW, '{"question": "tor'), ":2:", "last line is torn"),
        ((), "", "holds no rows"),
        ((ROW, {**ROW, "answer": " "}), ":2:", "'answer' is empty"),
        ((ROW, {**ROW, "reasoning": ""}), ":2:", "'reasoning' is empty"),
        (({"question": "q", "response": "<think>so</think> "},), ":1:", "no answer after </think>"),
        (({"question": "q", "response": ""},), ":1:", "'response' is empty"),
        (({**ROW, "question": 7},), ":1:", "holds int"),
        (({**ROW, "reasoning": "a</think>b"},), ":1:", "where it would end"),
        (({"question": "q", "reasoning": "r", "anser": "a"},), ":1:", "did you mean 'anser'"),
    ],
)
def test_fault_in_a_users_file_names_file_and_line(
    tmp_path: Path, lines: tuple[object, ...], where: str, says: str
) -> None:
    spec = local(tmp_path, *lines)
    before = Path(str(spec.path)).read_bytes()
    with pytest.raises(DataError, match=says) as caught:
        load_traces(spec, paths=PATHS)
    assert f"rows.jsonl{where}" in str(caught.value)
    assert Path(str(spec.path)).read_bytes() == before


def test_plain_rows_may_hold_a_response_or_its_parts(tmp_path: Path) -> None:
    spec = local(
        tmp_path, ROW, {"question": "q", "response": "<think>r</think>a"}, {"question": "p", "response": "r only"}
    )
    traces = load_traces(spec, paths=PATHS)
    assert [(t.categories, t.reasoning, t.answer, t.dropped, t.teacher) for t in traces] == [
        (("benign",), "no law speaks of it", "yes", "", "local"),
        ((), "r", "a", "", "local"),
        ((), "r only", "", UNCLOSED, "local"),
    ]


def test_prompts_need_categories_since_policies_hang_on_them(tmp_path: Path) -> None:
    spec = local(tmp_path, {"question": "q"}, has_traces=False)
    with pytest.raises(DataError, match="no column 'categories'"):
        load_dataset(spec, paths=PATHS, world_seed=0)
    with pytest.raises(DataError, match="holds prompts without reasoning"):
        load_traces(spec, paths=PATHS)


def test_read_traces_takes_own_records_and_plain_rows(tmp_path: Path) -> None:
    made = Trace("p", "q", ("benign",), "r", "a", "toy", "stop", policies=("benign",), row="3")
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(made.to_dict()) + "\n")
    assert read_traces(path) == (made,)
    path.write_text(json.dumps(ROW) + "\n")
    assert [(t.teacher, t.answer) for t in read_traces(path)] == [("t", "yes")]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 99}, "schema 99"),
        ({"answer": ""}, "empty answer"),
        ({"answer": 3}, "holds int"),
        ({"finish_reason": "stopped"}, "did you mean 'stop'"),
        ({"categories": "benign"}, "must be lists"),
        ({"extra": 1}, "unknown field"),
    ],
)
def test_damaged_trace_record_is_an_error(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    good = Trace("p", "q", ("benign",), "r", "a", "toy", "stop").to_dict()
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n")
    with pytest.raises(DataError, match=says) as caught:
        read_traces(path)
    assert "t.jsonl:2:" in str(caught.value)


def test_toy_prompts_are_the_worlds_and_limit_thins_them() -> None:
    from dalign.toy import World

    spec = DatasetSpec(name="toy", format="toy")
    everything = load_dataset(spec, paths=PATHS, world_seed=1)
    assert everything == World.of(1).prompts("toy_train")
    few = load_dataset(spec, paths=PATHS, world_seed=1, limit=7)
    assert len(few) == 7
    assert set(few) <= set(everything)


def test_split_response_without_tags() -> None:
    assert split_response("just this") == ("just this", "", False)
    assert split_response("<think>\n a \n</think>\n\n b ") == ("a", "b", True)


@pytest.mark.parametrize("kinds", [("harmful",), ("benign", "harmful"), ("math",)])
def test_prompts_of_some_kinds_alone(kinds: tuple[str, ...]) -> None:
    whole = load_dataset(DatasetSpec(name="toy", format="toy"), paths=PATHS, world_seed=0)
    some = load_dataset(DatasetSpec(name="toy", format="toy", kinds=kinds), paths=PATHS, world_seed=0)
    assert some == tuple(p for p in whole if p.kind in kinds)
    assert 0 < len(some) < len(whole)
    few = load_dataset(DatasetSpec(name="toy", format="toy", kinds=kinds), paths=PATHS, world_seed=0, limit=5)
    assert len(few) == 5
    assert set(few) <= set(some)


def test_traces_of_some_kinds_alone_and_kinds_that_are_not_there(tmp_path: Path) -> None:
    bad = {**ROW, "categories": ["Self-Harm"], "answer": "no"}
    (trace,) = load_traces(local(tmp_path, ROW, bad, kinds=("harmful",)), paths=PATHS)
    assert (trace.row, trace.answer) == ("1", "no")
    with pytest.raises(DataError, match=r"dataset.kinds=\['math'\]: dataset=local has none of them, only benign"):
        load_traces(local(tmp_path, ROW, bad, kinds=("math",)), paths=PATHS)


def test_kinds_are_no_conflict_for_folders_from_before_there_were_any() -> None:
    assert "kinds" not in DatasetSpec(name="toy", format="toy").results()
    assert DatasetSpec(name="toy", format="toy", kinds=("benign",)).results()["kinds"] == ["benign"]
