"""`dalign import`: files in the authors' shape become a run that `dalign report` shows, marked as what they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from dalign.cli import main
from dalign.files import read_records, read_tensors
from dalign.prompts.result_files import SEPARATOR, SIMILARITY
from dalign.records import Sample, Verdict
from dalign.toy.world import World

STUDENT = ("model=qwen2_5_0_5b", "teacher=r1_llama_8b")
# Of each prompt the second response is the least similar one at layer 12; it is unsafe for one prompt of four.
LABELS = [(0, 1), (0, 1), (1, 1), (0, 0)]
RATE, CHOSEN = 1 / 2, 1 / 4


def write(path: Path, head: list[str], rows: list[list[str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])
    return str(path)


def safety_files(folder: Path) -> list[str]:
    prompts = World.of(0).prompts("toy_dan")[: len(LABELS)]
    said = SEPARATOR.join(["so\n</think>\n\ntake the wool", "i will not"])
    rows = [[p.text, said, SEPARATOR.join(map(str, label))] for p, label in zip(prompts, LABELS, strict=True)]
    layers = SEPARATOR.join("_".join(["1.0", *[value] * 24]) for value in ("0.9", "1e-05"))
    return [
        write(folder / "mulit_generation_DAN.csv", ["prompt", "response", "label"], rows),
        write(
            folder / "mulit_generation_self_base_embedding_similarity_DAN.csv",
            ["prompt", "response", "label", SIMILARITY],
            [[*row, layers] for row in rows],
        ),
    ]


def results(run: Path) -> list[dict[str, object]]:
    return [dict(row) for row in json.loads((run / "report" / "results.json").read_text())["rows"]]


def test_a_safety_benchmark_becomes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, runs = safety_files(tmp_path), f"paths.runs={tmp_path / 'runs'}"
    assert main(["import", *files, "run=theirs", runs, *STUDENT]) == 0
    run = tmp_path / "runs" / "theirs"
    folder = run / "evaluate" / "distill" / "dan"
    assert (folder / "manifest.json").exists()
    samples = read_records(folder / "samples.parquet", Sample)
    assert [(s.reasoning, s.answer, s.prompt_ids) for s in samples[:2]] == [
        ("so", "take the wool", ()),
        ("", "i will not", ()),
    ]
    assert {(v.judge, v.part) for v in read_records(folder / "verdicts.parquet", Verdict)} == {
        ("published_label", "both")
    }
    assert read_tensors(folder / "scores.safetensors")[0]["layered/similarity"][0, 1, 24] == pytest.approx(1e-05)
    assert main(["report", "theirs", runs]) == 0
    found = results(run)
    assert {row["protocol"] for row in found} == {"imported"}
    assert {(row["model"], row["teacher"], row["judge"]) for row in found} == {
        ("qwen2_5_0_5b", "r1_llama_8b", "published_label")
    }
    whole = [row for row in found if row["selector"] == "mean" or row["k"] == row["n_samples"]]
    at = {row["selector"]: row["value"] for row in whole if row["layer"] in (None, 12)}
    assert (at["mean"], at["similarity_argmin"]) == (pytest.approx(RATE), pytest.approx(CHOSEN))
    assert "shortest" not in at  # the files do not tell how long a response is
    assert "dan is imported" in (run / "report" / "index.html").read_text()
    assert "published_label" in capsys.readouterr().out


def test_imports_stand_beside_published_rows(tmp_path: Path) -> None:
    runs = f"paths.runs={tmp_path / 'runs'}"
    assert main(["import", *safety_files(tmp_path), "run=theirs", runs, *STUDENT]) == 0
    assert main(["report", "theirs", "paper", "--out", str(tmp_path / "out"), runs]) == 0
    text = (tmp_path / "out" / "configurations.csv").read_text()
    assert 'theirs,distill,r1_llama_8b,qwen2_5_0_5b,"similarity_argmin, layer 12"' in text


def test_answers_are_graded_here(tmp_path: Path) -> None:
    prompts = World.of(0).prompts("toy_gsm8k")[:2]
    rows = [
        [p.text, SEPARATOR.join([f"#### {p.reference}", f"#### 9{p.reference}"]), str(p.reference)] for p in prompts
    ]
    file = write(tmp_path / "mulit_generation_GSM8K.csv", ["prompt", "response", "golden_answer"], rows)
    assert main(["import", file, "run=t", f"paths.runs={tmp_path / 'runs'}", "--policy", "base", *STUDENT]) == 0
    assert main(["report", "t", f"paths.runs={tmp_path / 'runs'}"]) == 0
    mean = [row for row in results(tmp_path / "runs" / "t") if row["selector"] == "mean"]
    assert {(row["benchmark"], row["policy"], row["metric"], row["value"]) for row in mean} == {
        ("gsm8k", "base", "accuracy", 0.5)
    }


def test_the_same_import_again_does_nothing_and_another_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = safety_files(tmp_path)
    line = ["import", *files, "run=t", f"paths.runs={tmp_path / 'runs'}", *STUDENT]
    assert main(line) == 0
    folder = tmp_path / "runs" / "t" / "evaluate" / "distill" / "dan"
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*.parquet")}
    assert main(line) == 0
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.parquet")} == before
    assert main(["import", files[0], "run=t", f"paths.runs={tmp_path / 'runs'}", *STUDENT]) == 2
    assert "was made under another configuration" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in folder.glob("*.parquet")} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{0}"], "an import takes a file and a run"),
        (["run=t"], "an import takes a file and a run"),
        (["{0}", "run=t", "--policy", "dstill"], "did you mean 'distill'"),
        (["{0}", "{1}", "{1}", "run=t"], "3 files"),
        (["none.csv", "run=t", "--benchmark", "dan"], "none.csv"),
        (["{0}", "{2}", "run=t"], "the files are of dan and gsm8k"),
    ],
)
def test_faults_of_the_command_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [*safety_files(tmp_path), str(tmp_path / "mulit_generation_GSM8K.csv")]
    line = [word.format(*files) for word in words]
    assert main(["import", *line, f"paths.runs={tmp_path / 'runs'}"]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
