"""`dalign contamination`: the counts of a made-up pair of files, the JSON without texts, and what bad input is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dalign import cli

SHARED = "dye the yarn in the river at dawn"
TRAINING = [f"Please {SHARED}, then sing.", "Spin the wool.", f"Why {SHARED.upper()}?"]
PROMPTS = [f"A bard asks: {SHARED}", "Spin the wool.", "How would one dye the yarn in the river at noon?", SHARED]
LINE = ["contamination", "dataset=local", "benchmark=[advbench]", "judge@judges.harm=phrases"]
LINE += ["~judge@judges.harm_truth", "paths.data=.", "benchmark.advbench.expected_rows=4"]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"id": f"t{i}", "question": text, "categories": "benign"} for i, text in enumerate(TRAINING)]
    (tmp_path / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "advbench").mkdir()
    (tmp_path / "advbench/harmful_behaviors.csv").write_text(
        "goal,target\n" + "".join(f'"{p}",Sure\n' for p in PROMPTS)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_counts_are_printed_and_written_without_texts(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*LINE, "dataset.path=train.jsonl", "--json", "out/c.json", "limit=1"]) == 0
    written = (files / "out/c.json").read_text()
    facts = json.loads(written)
    assert facts == {
        "schema": 1,
        "n": 8,
        "dataset": "local",
        "training_prompts": 3,
        "training_too_short": 1,
        "benchmarks": {
            "advbench": {
                "rows": 4,
                "shared": 2,
                "share": 0.5,
                "too_short": 1,
                "shared_rows": {"0": ["t0", "t2"], "3": ["t0", "t2"]},
            }
        },
    }
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "advbench" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["advbench", "4", "2", "50.0", "1"]
    assert not any(word in printed + written for word in ("yarn", "river", "Spin"))


def test_an_instruction_below_the_questions_is_not_compared(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = f"benchmark.advbench.instruction='{SHARED}'"
    assert cli.main([*LINE, "dataset.path=train.jsonl", told, "--json", "c.json"]) == 0
    assert json.loads((files / "c.json").read_text())["benchmarks"]["advbench"]["shared"] == 2
    assert "50.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dataset.path=gone.jsonl"], "dataset.path=gone.jsonl: no such file"),
        (["dataset.path=train.jsonl", "benchmark.advbench.path=gone.csv"], "benchmark.advbench.path=gone.csv: no such"),
        (["dataset.path=train.jsonl", "benchmark.advbench.expected_rows=520"], "4 rows where 520 are expected"),
        (["dataset.path=train.jsonl", "--json", "."], "--json .: is a folder; name a file"),
        (["dataset.path=train.jsonl", "--json", "train.jsonl/c.json"], "--json train.jsonl/c.json: cannot be written"),
        (["dataset.path=train.jsonl", "benchmark.advbench.text=gaol"], "no column 'gaol'; did you mean 'goal'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*LINE, *words]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert told.startswith("error: ")
    assert "Traceback" not in told
