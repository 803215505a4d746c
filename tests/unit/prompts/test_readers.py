"""Each format's traps, and that no row is ever skipped: what cannot be read names its file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from dalign.errors import DataError
from dalign.prompts.readers import Row, format_of, read_rows, source_ids


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(path: Path, kind: str) -> list[dict[str, object]]:
    return [row.cells for row in read_rows(path, kind)]


def test_csv_with_bom_crlf_empty_header_and_multi_line_cell(tmp_path: Path) -> None:
    text = '\ufeff,goal,note\r\n0,"bake\r\na cake",None\r\n1,"say ""hi""",NA\r\n'
    rows = read_rows(write(tmp_path, "a.csv", text), "csv")
    assert [r.cells for r in rows] == [
        {"": "0", "goal": "bake\na cake", "note": "None"},
        {"": "1", "goal": 'say "hi"', "note": "NA"},
    ]
    assert [r.where.rsplit(":", 1)[1] for r in rows] == ["2", "4"]


def test_tsv_keeps_tabs_and_line_breaks_inside_quotes(tmp_path: Path) -> None:
    text = 'adversarial\tlabel\n"one\ttab\nand a line"\t1\nplain\t0\n'
    assert cells(write(tmp_path, "a.tsv", text), "tsv") == [
        {"adversarial": "one\ttab\nand a line", "label": "1"},
        {"adversarial": "plain", "label": "0"},
    ]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a,b\n1,2\n1,2,3\n", 3, "3 cells where the header has 2"),
        ("a,b\n1\n", 2, "1 cells where the header has 2"),
        ('a,b\n1,2\n3,"torn', 3, "unexpected end of data"),
        ('a,b\n"x"y,2\n', 2, "unreadable row"),
        ("a,a\n1,2\n", 1, "more than once"),
    ],
)
def test_unreadable_csv_row_names_file_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = write(tmp_path, "bad.csv", text)
    with pytest.raises(DataError, match=says) as caught:
        read_rows(path, "csv")
    assert str(caught.value).startswith(f"{path}:{line}:")


def test_byte_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", b"a\nfine\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"a\.csv:3: not UTF-8"):
        read_rows(path, "csv")


@pytest.mark.parametrize(
    ("kind", "content"),
    [("csv", ""), ("csv", "a,b\n"), ("tsv", "a\n"), ("json", " \n"), ("json", "[ ]"), ("jsonl", "\n\n")],
)
def test_file_without_rows_is_an_error(tmp_path: Path, kind: str, content: str) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(write(tmp_path, f"a.{kind}", content), kind)


def test_jsonl_torn_last_line_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"q": 1}\n{"q": 2}\n{"q": "thr')
    with pytest.raises(DataError, match=r"last line is torn.*complete it or take it out") as caught:
        read_rows(path, "jsonl")
    assert str(caught.value).startswith(f"{path}:3:")
    assert path.read_text().endswith("thr")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{bad}", "not valid JSON"),
        ("[1, 2]", "JSON list"),
        ("3", "JSON int"),
        ("1" * 5000, "not valid JSON"),
        ("[" * 99999, "not valid JSON"),
    ],
)
def test_jsonl_bad_line_in_the_middle(tmp_path: Path, line: str, says: str) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"q": 1}}\n{line}\n{{"q": 2}}\n')
    with pytest.raises(DataError, match=rf"a\.jsonl:2: .*{says}"):
        read_rows(path, "jsonl")


def test_json_list_knows_the_line_of_each_object(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps([{"q": "x"}, {"q": "y, ]"}], indent=1))
    rows = read_rows(path, "json")
    assert [(r.cells["q"], r.index, r.where.rsplit(":", 1)[1]) for r in rows] == [("x", 0, "2"), ("y, ]", 1, "5")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"a": 1}', "must be a JSON list"),
        ('[{"a": 1},\n{"a": ', r":2: item 2 is not valid JSON, or torn"),
        ('[{"a": 1}', "without a comma or its end"),
        ('[{"a": 1}{"a": 2}]', "without a comma"),
        ('[{"a": 1},\n 7]', ":2: holds a JSON int"),
        ('[{"a": 1}] tail', "after the end of the list"),
    ],
)
def test_broken_json_list(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_rows(write(tmp_path, "a.json", content), "json")


def test_parquet_round_trip_and_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"q": ["x", None], "n": [1, 2]}), path)
    assert cells(path, "parquet") == [{"q": "x", "n": 1}, {"q": None, "n": 2}]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_rows(path, "parquet")


def test_missing_column_suggests_the_nearest() -> None:
    row = Row("f.csv:2", 0, {"forbidden_prompt": "x", "source": "y"})
    with pytest.raises(DataError, match=r"f\.csv:2: no column 'forbiden_prompt'; did you mean 'forbidden_prompt'"):
        row.text("forbiden_prompt")


@pytest.mark.parametrize(
    ("value", "says"), [("  ", "is empty"), (None, "holds NoneType"), (7, "holds int"), ("a\ud800", "half a character")]
)
def test_text_cell_must_hold_whole_text(value: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        Row("f:1", 0, {"q": value}).text("q")


def test_source_ids_are_unique_and_default_to_the_index() -> None:
    rows = [Row("f:2", 0, {"id": 7}), Row("f:3", 1, {"id": 8}), Row("f:4", 2, {"id": "7"})]
    assert source_ids(rows, None) == ["0", "1", "2"]
    assert source_ids(rows[:2], "id") == ["7", "8"]
    with pytest.raises(DataError, match="f:4: row id '7' stands at f:2 already"):
        source_ids(rows, "id")


def test_unknown_ending_lists_the_known() -> None:
    assert format_of(Path("x/Eval.TSV")) == "tsv"
    with pytest.raises(DataError, match=r"\.csv, \.tsv, \.json, \.jsonl, \.parquet"):
        format_of(Path("x/eval.xlsx"))


def test_ids_of_several_columns_are_joined_and_must_be_whole_and_unique(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, "a.csv", "policy,q+id,q_id\n0,x,0\n0,y,1\n1,z,0\n"), "csv")
    assert source_ids(rows, "policy+q_id") == ["0/0", "0/1", "1/0"]
    assert source_ids(rows, "q+id") == ["x", "y", "z"]
    with pytest.raises(DataError, match=r"a\.csv:4: row id '0'|a\.csv:3: row id '0'"):
        source_ids(rows, "policy")
    torn = read_rows(write(tmp_path, "b.csv", "policy,q_id\n0,\n"), "csv")
    with pytest.raises(DataError, match="is empty, it must hold the row's id"):
        source_ids(torn, "policy+q_id")


def test_null_and_nan_are_empty_labels() -> None:
    row = Row("f:1", 0, {"a": None, "b": float("nan"), "c": 2.0, "d": False})
    assert [row.label(name) for name in "abcd"] == ["", "", "2.0", "False"]
