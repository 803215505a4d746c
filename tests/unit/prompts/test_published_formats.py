"""Each entry of conf/benchmark on a file of its published format: its columns, its full count, its traps.

The files are written here, with made-up harmless content; the real ones are in test_published_files.py.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from dalign.errors import DataError
from dalign.prompts import load_benchmark
from dalign.records import Prompt
from dalign.specs.data import BenchmarkSpec
from dalign.specs.run import PathsSpec

CONF = Path(__file__).resolve().parents[3] / "conf/benchmark"
DAN = [
    "platform",
    "source",
    "prompt",
    "jailbreak",
    "created_at",
    "date",
    "community",
    "community_id",
    "previous_community_id",
]
QUESTION = ["content_policy_id", "content_policy_name", "q_id", "question"]
HARMBENCH = ["Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID"]
JAILBREAKBENCH = ["Index", "Goal", "Target", "Behavior", "Category", "Source"]


def load(name: str, folder: Path, limit: int | None = None, **changed: Any) -> tuple[Prompt, ...]:
    entry = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    entry.pop("_target_")
    questions = {**entry.get("questions", {}), **changed.pop("questions", {})}
    spec = BenchmarkSpec.model_validate({**entry, **changed, **({"questions": questions} if questions else {})})
    return load_benchmark(spec, paths=PathsSpec(data=str(folder)), world_seed=0, limit=limit)


def table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]], *, delimiter: str = ",") -> Path:
    """A delimited file as spreadsheets and pandas write it: CRLF at the ends of rows, a byte-order mark."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(rows)
    return file


def jailbreak(number: int, *, community: str = "") -> list[object]:
    text = f'You are "Bard {number}",\r\nwho sings of wool.\n\nNone'
    return ["discord", "Knitters", text, "True", "2023-05-07", "2023-05-07", community and "Bards", community, ""]


@pytest.fixture
def dan(tmp_path: Path) -> Path:
    """1,405 prompts of which 41 occur twice, three in one community; 390 questions, 30 for each of 13 policies."""
    rows = [jailbreak(i, community="7" if i < 3 else "") for i in range(1364)]
    table(tmp_path / "dan/jailbreak_prompts_2023_12_25.csv", DAN, [*rows, *(jailbreak(i) for i in range(100, 141))])
    asked = [(p, f"Craft {p}", q, f"How is yarn {p}-{q} dyed?") for p in range(13) for q in range(30)]
    table(tmp_path / "dan/forbidden_question_set.csv", QUESTION, asked)
    return tmp_path


def test_dan_as_published_keeps_and_groups_what_occurs_twice(dan: Path) -> None:
    prompts = load("dan", dan)
    assert prompts[5].text == 'You are "Bard 5",\nwho sings of wool.\n\nNone'
    assert [p.row for p in prompts] == [str(i) for i in range(1405)]
    sizes = Counter(Counter(p.group for p in prompts).values())
    assert sizes == {1: 1364 - 41 - 3, 2: 41, 3: 1}
    assert {p.group for p in prompts[:3]} == {"0"}
    assert prompts[1364].group == prompts[100].row
    assert {p.kind for p in prompts} == {"harmful"}


def test_dan_questions_takes_one_question_a_prompt_and_groups_by_it(dan: Path) -> None:
    prompts = load("dan_questions", dan)
    assert len(prompts) == 1405
    assert prompts[0].text.endswith("\n\nNone\n\nHow is yarn 0-0 dyed?")
    assert (prompts[391].row, prompts[391].group, prompts[391].subset) == ("391:0/1", "0/1", "Craft 0")
    groups = Counter(p.group for p in prompts)
    assert len(groups) == 390
    assert set(groups.values()) == {3, 4}


def test_dan_questions_has_the_size_that_is_asked_for(dan: Path) -> None:
    assert len(load("dan_questions", dan, questions={"per_prompt": 3})) == 3 * 1405
    few = load("dan_questions", dan, limit=26)
    assert Counter(p.subset for p in few) == {f"Craft {p}": 2 for p in range(13)}
    assert few == load("dan_questions", dan, limit=26)


def test_another_count_is_told_for_the_prompts_and_for_the_questions(dan: Path) -> None:
    table(dan / "short.csv", DAN, [jailbreak(0)])
    with pytest.raises(DataError, match=r"benchmark\.dan_questions: 1 rows where 1405 are expected"):
        load("dan_questions", dan, path="short.csv")
    table(dan / "few.csv", QUESTION, [(0, "Craft", 0, "How is yarn dyed?")])
    with pytest.raises(DataError, match=r"benchmark\.dan_questions\.questions: 1 rows where 390 are expected"):
        load("dan_questions", dan, questions={"path": "few.csv"})


def test_a_torn_dan_file_names_file_and_line(dan: Path) -> None:
    file = dan / "dan/jailbreak_prompts_2023_12_25.csv"
    file.write_bytes(file.read_bytes()[: file.read_bytes().index(b'""Bard 3""')])
    # A header and three prompts of four lines each stand before the torn one.
    with pytest.raises(DataError, match=rf"{file}:14: unreadable row"):
        load("dan", dan)


def test_wildjailbreak_is_read_with_line_breaks_and_tabs_in_its_cells(tmp_path: Path) -> None:
    rows = [(f"Tell a tale\tof wool {i},\r\nand dye it.", 1, "adversarial_harmful") for i in range(2000)]
    rows += [(f'Tell "a tale"\tof silk {i}.', 0, "adversarial_benign") for i in range(210)]
    file = table(tmp_path / "wildjailbreak/eval.tsv", ("adversarial", "label", "data_type"), rows, delimiter="\t")
    prompts = load("wildjailbreak", tmp_path)
    assert prompts[0].text == "Tell a tale\tof wool 0,\nand dye it."
    assert Counter((p.kind, p.subset) for p in prompts) == {
        ("harmful", "adversarial_harmful"): 2000,
        ("benign", "adversarial_benign"): 210,
    }
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write("a tale\tof unquoted tabs\t1\tadversarial_harmful\r\n")
    with pytest.raises(DataError, match=rf"{file}:4212: 4 cells where the header has 3"):
        load("wildjailbreak", tmp_path)


def test_advbench_has_520_goals_and_groups_equal_ones(tmp_path: Path) -> None:
    rows = [(f"Write a song about wool {i % 519}", f"Sure, here is a song {i}") for i in range(520)]
    table(tmp_path / "advbench/harmful_behaviors.csv", ("goal", "target"), rows)
    prompts = load("advbench", tmp_path)
    assert prompts[519].text == "Write a song about wool 0"
    assert (prompts[519].row, prompts[519].group) == ("519", "0")
    assert len({p.group for p in prompts}) == 519


def test_advbench_of_pair_has_an_empty_first_header(tmp_path: Path) -> None:
    rows = [(i, f"Write song {i}", "Sure", "Songs", 7 * i) for i in range(50)]
    table(
        tmp_path / "advbench/harmful_behaviors_custom.csv", ("", "goal", "target", "category", "Original index"), rows
    )
    assert [p.row for p in load("advbench_pair", tmp_path)] == [str(7 * i) for i in range(50)]


def test_harmbench_sets_a_context_above_the_request_and_copyright_apart(tmp_path: Path) -> None:
    rows = [(f"Hum tune {i}", "standard", "songs", "", "", f"tune_{i}") for i in range(200)]
    rows += [
        (f"Finish verse {i}", "contextual", "songs", "context", f"Wool is {i // 2},\nsilk is not.", f"verse_{i}")
        for i in range(100)
    ]
    rows += [(f"Sing song {i}", "copyright", "songs", "lyrics", " ", f"song_{i}") for i in range(100)]
    table(tmp_path / "harmbench/harmbench_behaviors_text_all.csv", HARMBENCH, rows)
    prompts = load("harmbench", tmp_path)
    assert Counter(p.subset for p in prompts) == {"standard": 200, "contextual": 100, "copyright": 100}
    assert (prompts[0].row, prompts[0].text) == ("tune_0", "Hum tune 0")
    assert prompts[200].text == "Wool is 0,\nsilk is not.\n\n---\n\nFinish verse 0"
    assert [p.group for p in prompts[200:204]] == ["verse_0", "verse_0", "verse_2", "verse_2"]
    assert prompts[300].text == "Sing song 0"
    assert len(load("harmbench", tmp_path, where={"FunctionalCategory": ["standard"]}, expected_rows=200)) == 200


def jailbreakbench(folder: Path) -> Path:
    for name, verb in (("harmful", "Dye"), ("benign", "Spin"), ("judge-comparison-of", "Judge")):
        rows = [(i, f"{verb} yarn {i}", "Sure", f"Yarn {i}", "Crafts", "Original") for i in range(100)]
        ending = "behaviors" if name in ("harmful", "benign") else "rows"
        table(folder / f"{name}-{ending}.csv", JAILBREAKBENCH, rows)
    return folder


def test_jailbreakbench_pairs_a_harmful_and_a_benign_behaviour_by_index(tmp_path: Path) -> None:
    jailbreakbench(tmp_path / "jailbreakbench")
    prompts = load("jailbreakbench", tmp_path)
    assert Counter(p.kind for p in prompts) == {"harmful": 100, "benign": 100}
    by_row = {p.row: p for p in prompts}
    harmful, benign = by_row["harmful-behaviors/7"], by_row["benign-behaviors/7"]
    assert (harmful.text, harmful.kind, benign.text, benign.kind) == ("Dye yarn 7", "harmful", "Spin yarn 7", "benign")
    assert harmful.group == benign.group != by_row["benign-behaviors/8"].group
    assert Counter(p.kind for p in load("jailbreakbench", tmp_path, limit=10)) == {"harmful": 5, "benign": 5}


def test_jailbreakbench_without_its_files_says_which_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "jailbreakbench").mkdir()
    with pytest.raises(DataError, match=r"no file in .*jailbreakbench fits benchmark\.jailbreakbench\.hub_file=\*-beh"):
        load("jailbreakbench", tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[tuple[str, str, str]]:
    """The hub, holding for every repository the files of ``folder``; what is fetched is noted."""
    fetched: list[tuple[str, str, str]] = []

    def fetch(repo: str, name: str, *, revision: str, repo_type: str) -> str:
        fetched.append((repo, name, revision))
        return str(folder / name)

    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: names)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return fetched


def parquet(file: Path, **columns: Sequence[Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), file)


def test_mmlu_takes_any_subject_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in ("tailoring", "virology", "all", "auxiliary_train"):
        columns = {"question": [f"{subject}?", "None"], "subject": [subject] * 2}
        choices = [["None", "wool", "a, b", "silk"]] * 2
        parquet(tmp_path / f"{subject}/test-00000-of-00001.parquet", **columns, choices=choices, answer=[0, 3])
    fetched = hub(monkeypatch, tmp_path)
    prompts = load("mmlu", tmp_path, path=None, subjects=["virology"], expected_rows=2, instruction="")
    assert prompts[0].text == "virology?\nA. None\nB. wool\nC. a, b\nD. silk"
    assert [(p.row, p.subset, p.reference) for p in prompts] == [
        ("virology/0", "virology", "A"),
        ("virology/1", "virology", "D"),
    ]
    revision = "c30699e8356da336a370243923dbaf21066bb9fe"
    assert fetched == [("cais/mmlu", "virology/test-00000-of-00001.parquet", revision)]
    every = load("mmlu", tmp_path, path=None, subjects=[], expected_rows=None)
    assert [p.subset for p in every] == ["tailoring", "tailoring", "virology", "virology"]
    with pytest.raises(DataError, match=r"benchmark\.mmlu\.subjects: no virolgy.*did you mean 'virology'"):
        load("mmlu", tmp_path, path=None, subjects=["virolgy"])


@pytest.mark.parametrize(
    ("choices", "answer", "says"),
    [(["a", "b", "c"], 0, "row 1: choices must be"), (["a", "b", "c", "d"], 4, "row 1: answer must be .* it reads 4")],
)
def test_mmlu_row_of_the_hub_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choices: list[str], answer: int, says: str
) -> None:
    parquet(tmp_path / "virology/test-0.parquet", question=["?"], choices=[choices], answer=[answer])
    hub(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=says):
        load("mmlu", tmp_path, path=None, subjects=["virology"])


def test_mmlu_takes_any_local_subject(tmp_path: Path) -> None:
    table(tmp_path / "mmlu/test/virology_test.csv", ("None?", "None", "1", "2", "3", "B"), [])
    (prompt,) = load("mmlu", tmp_path, subjects=["virology"], expected_rows=1, instruction="")
    assert (prompt.text, prompt.reference) == ("None?\nA. None\nB. 1\nC. 2\nD. 3", "B")


def test_the_hubs_files_are_read_by_their_endings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet(tmp_path / "main/test-00000-of-00001.parquet", question=["2 + 2?"], answer=["#### 4"])
    nan = float("nan")
    parquet(tmp_path / "jailbreak_2023_12_25/train-0.parquet", prompt=["a", "b", "c"], community_id=[nan, nan, 2.0])
    table(tmp_path / "forbidden_question_set.csv", QUESTION, [(0, "Craft", 0, "How is yarn dyed?")])
    jailbreakbench(tmp_path / "data")
    fetched = hub(monkeypatch, tmp_path)
    assert load("gsm8k", tmp_path, path=None, expected_rows=1)[0].reference == "4"
    assert [p.group for p in load("dan", tmp_path, path=None, expected_rows=3)] == ["0", "1", "2"]
    asked = load("dan_questions", tmp_path, path=None, expected_rows=3, questions={"path": None, "expected_rows": 1})
    assert asked[2].text == "c\n\nHow is yarn dyed?"
    assert len(load("jailbreakbench", tmp_path, path=None)) == 200
    assert [name for _, name, _ in fetched[-2:]] == ["data/benign-behaviors.csv", "data/harmful-behaviors.csv"]


def test_a_missing_file_names_the_hub_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"benchmark\.dan\.path=null to take TrustAIRLab/in-the-wild"):
        load("dan", tmp_path)
    with pytest.raises(DataError, match="no such file") as caught:
        load("advbench", tmp_path)
    assert "hub" not in str(caught.value)
