"""Many configurations as tables: the paper's published rows, runs, and texts that stay texts in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import informative, report_of, write_cell

from dalign import cli
from dalign.errors import ConfigError, DataError
from dalign.report.configurations import ONE_ANSWER, Entry, changes, gaps, of_report, read_published
from dalign.report.formats import PlainTable
from dalign.report.gather import gathered, write_gathered
from dalign.report.published import ROWS

BENCHMARKS = ("dan", "wildjailbreak", "strongreject", "gsm8k", "mmlu")


def test_the_published_rows_give_the_papers_table_1() -> None:
    """As printed: layer 12 of 42 students to 0.3 points, KL and the two certainty rows to 0.4."""
    found = {(c.stage, c.selector, c.benchmark): c for c in changes(read_published())}
    printed = {row.printed: row for row in ROWS if row.stage == "SFT"}
    names = {
        "latent similarity, layer 12": "similarity_argmin, layer 12",
        "KL": "kl_argmax",
        "perplexity": "ppl_student_argmin",
        "self-certainty": "self_certainty_argmax",
    }
    for row, selector in names.items():
        for benchmark, wanted in zip(BENCHMARKS, printed[row].values, strict=True):
            change = found["distill", selector, benchmark]
            assert change.n == 42
            near = 0.3 if "layer 12" in row else 0.4
            assert 100 * change.mean_of_ratios == pytest.approx(wanted, abs=near), (row, benchmark)


def test_the_published_grpo_table_does_not_come_out() -> None:
    """KL after GRPO is printed as raising ASR, and its rows lower it in every configuration."""
    found = {(c.stage, c.selector, c.benchmark): c for c in changes(read_published())}
    printed = next(row for row in ROWS if row.stage == "GRPO" and row.printed.startswith("KL"))
    change = found["grpo", "kl_argmax", "dan"]
    assert printed.values[0] < 0 < 100 * change.mean_of_ratios
    assert change.raised == 0.0


def entry(rate: float, **fields: object) -> Entry:
    base = Entry("r", "distill", "t", "s", ONE_ANSWER, "b", rate, higher=False)
    return replace(base, **fields)  # type: ignore[arg-type]


def test_the_two_means_weigh_configurations_differently() -> None:
    """Rates 0.4 to 0.2 and 0.1 to 0.1: ratios 0.5 and 0, means 0.25 to 0.15."""
    rows = [entry(0.4, student="a"), entry(0.1, student="b"), entry(0.0, student="c")]
    rows += [entry(r, student=s, selector="x") for r, s in ((0.2, "a"), (0.1, "b"), (0.0, "c"))]
    (change,) = changes(rows)
    assert (change.n, change.mean_of_ratios, change.ratio_of_means) == (2, 0.25, pytest.approx(0.4))
    assert change.interval is None, "one teacher alone"
    assert change.raised == 0.0


def test_the_interval_draws_teachers_and_students_again() -> None:
    """All students alike and teachers far apart: with two teachers the mean is one of three values."""
    rows = [entry(0.5, teacher=t, student=s) for t in "ab" for s in "xyz"]
    rows += [entry(0.5 if t == "a" else 0.0, teacher=t, student=s, selector="x") for t in "ab" for s in "xyz"]
    (change,) = changes(rows)
    assert change.mean_of_ratios == 0.5
    assert change.interval == (0.0, 1.0)
    assert changes(rows) == changes(rows), "seeded"


def test_a_right_answer_less_is_worse() -> None:
    rows = [entry(0.8, higher=True), entry(0.6, higher=True, selector="x")]
    (change,) = changes(rows)
    assert (change.mean_of_ratios, change.raised) == (pytest.approx(0.25), 1.0)


def two_runs(folder: Path) -> list[Entry]:
    out = []
    for name, teacher in (("one", "us"), ("two", "ss")):
        labels = ["us", "ss", "uu", "su"]
        write_cell(folder / name, labels, scores={"similarity": informative(labels)})
        write_cell(folder / name, [teacher] * 4, policy="teacher")
        write_cell(folder / name, ["10", "11", "00", "01"], benchmark="sums", kind="math", judge="answers")
        out += of_report(report_of(folder / name))
    return out


def test_runs_become_entries_of_their_first_judge(tmp_path: Path) -> None:
    entries = two_runs(tmp_path)
    single = {(e.stage, e.benchmark): e.rate for e in entries if e.selector == ONE_ANSWER}
    assert single == {("distill", "attacks"): 0.5, ("distill", "sums"): 0.5, ("teacher", "attacks"): 0.0}
    chosen = [e for e in entries if e.selector == "similarity_argmin, layer 1"]
    assert [e.rate for e in chosen] == [0.25, 0.25]
    assert not any(", layer 0" in e.selector or ", layer 2" in e.selector for e in entries)
    assert {e.higher for e in entries if e.benchmark == "sums"} == {True}
    found = {(e.benchmark, round(e.rate - teacher, 3)) for e, teacher in gaps(entries)}
    assert found == {("attacks", 0.0), ("attacks", 0.5)}


def test_the_tables_are_written_in_four_formats_and_say_the_same(tmp_path: Path) -> None:
    entries = [*two_runs(tmp_path), *read_published()]
    tables = write_gathered(entries, tmp_path / "out")
    assert [table.name for table in tables] == ["changes", "changes_of_means", "configurations", "gap"]
    for table in tables:
        rows = list(csv.reader(io.StringIO((tmp_path / "out" / f"{table.name}.csv").read_text(encoding="utf-8"))))
        assert len(rows) == len(table.rows) + 1
        assert (tmp_path / "out" / f"{table.name}.md").read_text(encoding="utf-8").count("\n|") == len(table.rows) + 2
        assert (tmp_path / "out" / f"{table.name}.tex").read_text(encoding="utf-8").count(r" \\") == len(table.rows) + 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == sum(len(table.rows) + 1 for table in tables)
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert "Of the published numbers" in page
    assert gathered(entries) == tables


def test_names_stay_text_in_every_format() -> None:
    nasty = "=1+1|<script>alert(1)</script>_100%\\input{x}"
    table = PlainTable("t", "a title", ("name", "rate"), ((nasty, "-1.5"),), 1)
    assert "<script>" not in table.html()
    assert r"\input" not in table.latex().replace(r"\textbackslash{}input", "")
    assert r"\_100\%" in table.latex()
    row = table.markdown().splitlines()[-1]
    assert row.replace("\\|", "").count("|") == 3
    assert table.csv().splitlines()[-1].startswith("'=1+1")
    assert table.csv().splitlines()[-1].endswith(",-1.5"), "a negative number is a number"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "lacks the column"),
        ("{head}\n11,sft,t,s,kl,abc,,,,\n", r":2: asr_dan='abc' is no number"),
        ("{head}\n11,sft,t,s,kl,140,,,,\n", r":2: asr_dan=140 is no rate in per cent"),
    ],
)
def test_published_rows_of_another_format_are_refused(tmp_path: Path, text: str, message: str) -> None:
    head = "table,stage,teacher,student,selector,asr_dan,asr_wildjailbreak,asr_strongreject,acc_gsm8k,acc_mmlu"
    (tmp_path / "p.csv").write_text(text.replace("{head}", head))
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / "p.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_published(tmp_path / "none.csv")


def test_the_command_gathers_runs_beside_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_runs(tmp_path)
    line = ["report", "paper", str(tmp_path / "one"), str(tmp_path / "two"), "selector.layer=1"]
    assert cli.main(line) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert cli.main([*line, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "gap.csv").exists()
    assert json.loads((tmp_path / "one" / "report" / "results.json").read_text())["rows"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_gathered(read_published(), tmp_path / "file")


def test_runs_of_a_sweep_stand_by_temperature(tmp_path: Path) -> None:
    entries = []
    for temperature, labels in ((0.0, ["ss", "uu"]), (0.7, ["us", "uu"])):
        run = tmp_path / f"t={temperature}"
        folder = write_cell(run, labels, scores={"similarity": informative(labels)})
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("temperature: 0.7", f"temperature: {temperature}"))
        entries += of_report(report_of(run))
    (table,) = [t for t in gathered(entries) if t.name == "temperatures"]
    assert [row[3:] for row in table.rows] == [
        ("greedy", ONE_ANSWER, "50.0"),
        ("0.7", ONE_ANSWER, "75.0"),
        ("greedy", "similarity_argmin, layer 1", "50.0"),
        ("0.7", "similarity_argmin, layer 1", "50.0"),
    ]
    one_of_them = [e for e in entries if e.temperature == 0.7]
    assert "temperatures" not in {t.name for t in gathered(one_of_them)}
