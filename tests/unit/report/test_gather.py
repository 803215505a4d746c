"""Many configurations as tables: the paper's published rows, runs, and texts that stay texts in every format."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import informative, report_of, write_cell

from dalign import cli
from dalign.errors import ConfigError, DataError
from dalign.report.configurations import ONE_ANSWER, Entry, changes, gaps, read_published
from dalign.report.formats import PlainTable
from dalign.report.gather import write_gathered
from dalign.report.gathered_figures import length_ranges, utility_maps
from dalign.report.gathered_tables import tables
from dalign.report.published import ROWS
from dalign.report.run_facts import RunFacts, facts_of, of_report

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


def two_runs(folder: Path) -> list[RunFacts]:
    out = []
    for name, teacher in (("one", "us"), ("two", "ss")):
        labels = ["us", "ss", "uu", "su"]
        write_cell(folder / name, labels, scores={"similarity": informative(labels)})
        write_cell(folder / name, [teacher] * 4, policy="teacher")
        write_cell(folder / name, ["10", "11", "00", "01"], benchmark="sums", kind="math", judge="answers")
        out.append(facts_of(report_of(folder / name)))
    return out


def test_runs_become_entries_of_their_first_judge(tmp_path: Path) -> None:
    entries = [entry for run in two_runs(tmp_path) for entry in run.entries]
    single = {(e.stage, e.benchmark): e.rate for e in entries if e.selector == ONE_ANSWER}
    assert single == {("distill", "attacks"): 0.5, ("distill", "sums"): 0.5, ("teacher", "attacks"): 0.0}
    chosen = [e for e in entries if e.selector == "similarity_argmin, layer 1"]
    assert [e.rate for e in chosen] == [0.25, 0.25]
    assert not any(", layer 0" in e.selector or ", layer 2" in e.selector for e in entries)
    assert {e.higher for e in entries if e.benchmark == "sums"} == {True}
    found = {(e.benchmark, round(e.rate - teacher, 3)) for e, teacher in gaps(entries)}
    assert found == {("attacks", 0.0), ("attacks", 0.5)}


def test_the_tables_are_written_in_four_formats_and_say_the_same(tmp_path: Path) -> None:
    runs, published = two_runs(tmp_path), read_published()
    made = write_gathered(runs, tmp_path / "out", published=published)
    names = ["changes", "changes_of_means", "against_similarity", "configurations", "gap", "utility", "utility_floor"]
    assert [table.name for table in made] == [*names, "layers", "lengths"]
    for table in made:
        rows = list(csv.reader(io.StringIO((tmp_path / "out" / f"{table.name}.csv").read_text(encoding="utf-8"))))
        assert len(rows) == len(table.rows) + 1
        assert (tmp_path / "out" / f"{table.name}.md").read_text(encoding="utf-8").count("\n|") == len(table.rows) + 2
        assert (tmp_path / "out" / f"{table.name}.tex").read_text(encoding="utf-8").count(r" \\") == len(table.rows) + 1
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == sum(len(table.rows) + 1 for table in made)
    assert page.count("<figure>") == 5, "utility of the paper's two stages and of the runs, layers, lengths"
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert "Of the published numbers" in page
    assert tables([*published, *(e for run in runs for e in run.entries)], runs) == made


def test_runs_bring_their_layers_and_the_lengths_of_their_responses(tmp_path: Path) -> None:
    """Layer 0 is chance, 0.5; above it the unsafe ones score higher, so the least similar of ``us`` is safe."""
    first = two_runs(tmp_path)[0]
    found = {(one.benchmark, one.layer): one for one in first.layers}
    assert {key: (one.value, one.fixed) for key, one in found.items()} == {
        ("attacks", 0): (0.5, False),
        ("attacks", 1): (0.25, True),
        ("attacks", 2): (0.25, False),
    }
    (of_attacks,) = [one for one in first.lengths if one.configuration[1] == "distill" and one.benchmark == "attacks"]
    assert (of_attacks.n, of_attacks.tokens[:3], of_attacks.cut) == (8, (5.0, 5.5, 6.0), 0.0)
    by_name = {table.name: table for table in tables(first.entries, [first])}
    assert by_name["layers"].rows == (
        ("one", "distill", "toy", "toy", "attacks", "similarity_argmin", "50.0", "25.0*", "25.0"),
    )
    assert ("one", "distill", "toy", "toy", "attacks", "5", "6", "6", "6", "0", "8") in by_name["lengths"].rows


def test_the_utility_map_has_a_place_for_every_student_and_teacher() -> None:
    rows = [entry(0.25, higher=True, teacher="t", student=s) for s in "ab"]
    rows += [entry(0.75, higher=True, teacher="u", student="a"), entry(0.9, higher=True, stage="base", student="a")]
    (table,) = [one for one in tables(rows, []) if one.name == "utility"]
    assert table.head == ("source", "stage", "benchmark", "student", "t", "u")
    assert table.rows == (("r", "distill", "b", "a", "25.0", "75.0"), ("r", "distill", "b", "b", "25.0", "–"))
    (figure,) = utility_maps([*rows, entry(0.75, higher=True, source="q", teacher="t", student="b")])
    assert {f">{text}</text>" in figure.svg for text in ("25", "75", "50")} == {True}, "two runs in one place: a mean"
    assert ">90</text>" not in figure.svg, "a base has no teacher"
    assert "<image" not in figure.svg, "the page's policy loads no picture"
    assert not list(utility_maps([entry(0.25)]))
    assert length_ranges([]) is None


def test_the_published_rows_say_what_beats_layer_12_and_who_scores_at_chance() -> None:
    """KL in about half of the 42 students, in most after GRPO; 15 of 42 get 30 % of MMLU right at most."""
    found = {table.name: table for table in tables(read_published(), [])}
    kl = {row[1]: row[3:6] for row in found["against_similarity"].rows if row[2] == "kl_argmax"}
    wins = {stage: [float(cell.split(" of ")[0]) for cell in cells] for stage, cells in kl.items()}
    assert [cell.split(" of ")[1] for cell in (*kl["distill"], *kl["grpo"])] == ["42"] * 3 + ["12"] * 3
    assert all(15 <= n <= 27 for n in wins["distill"])
    assert all(n >= 10 for n in wins["grpo"])
    (mmlu,) = [row for row in found["utility_floor"].rows if row[1:3] == ("distill", "mmlu")]
    assert (mmlu[3], mmlu[-1]) == ("42", "15")


def test_a_tie_with_the_similarity_counts_half_and_right_answers_count_upwards() -> None:
    fixed = {"selector": "similarity_argmin, layer 1"}
    rows = [entry(0.2, student=s, **fixed) for s in "abc"]
    rows += [entry(r, student=s, selector="x") for r, s in ((0.1, "a"), (0.2, "b"), (0.3, "c"))]
    rows += [entry(0.5, benchmark="u", higher=True, **fixed), entry(0.6, benchmark="u", higher=True, selector="x")]
    (table,) = [one for one in tables(rows, []) if one.name == "against_similarity"]
    assert table.rows == (("runs", "distill", "x", "1.5 of 3", "1 of 1"),)


def test_attacks_beside_a_run_make_the_papers_table_4(tmp_path: Path) -> None:
    def row(target: str, iteration: int, value: float, **fields: object) -> dict[str, object]:
        place = {"attack": "pair", "policy": "distill", "benchmark": "b", "judge": "far", "metric": "asr"}
        ends = {"ci_low": 0.1, "ci_high": 0.9, "difference_ci_low": -0.2, "difference_ci_high": 0.1}
        numbers = {"value": value, "difference": -0.1 if target == "bon" else None, "n_prompts": 50, **ends}
        kind = {"pick": "submitted", "is_attack_judge": False, "target": target, "iteration": iteration}
        return {**place, **numbers, **kind, **fields}

    write_cell(tmp_path / "one", ["us", "ss"])
    folder = tmp_path / "one" / "attack" / "pair"
    folder.mkdir(parents=True)
    rows = [row(t, i, i / 10) for t in ("single", "bon") for i in (1, 8)]
    rows += [row("single", 8, 1.0, pick="any"), row("single", 8, 1.0, judge="near", is_attack_judge=True)]
    (folder / "results.json").write_text(json.dumps({"schema": 1, "rows": rows}))
    facts = facts_of(report_of(tmp_path / "one"))
    (table,) = [one for one in tables(facts.entries, [facts]) if one.name == "pair"]
    assert table.rows == (
        ("one", "pair", "distill", "b", "far", "asr", "8", "80 [10, 90]", "80 [10, 90]", "−10 [−20, +10]", "50"),
    )


def test_two_runs_of_one_name_are_told_apart_by_their_folders_or_refused(tmp_path: Path) -> None:
    one = two_runs(tmp_path)[0]
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    copy = facts_of(report_of(tmp_path / "copy"))
    assert {entry.source for entry in copy.entries} == {"copy"}
    write_gathered([one, copy], tmp_path / "out")
    with pytest.raises(ConfigError, match=r"both called 'one'; rename a folder"):
        write_gathered([one, replace(copy, source="one")], tmp_path / "out")


def test_a_run_against_a_second_checkpoint_is_a_stage_of_its_own(tmp_path: Path) -> None:
    report = report_of(write_cell(tmp_path / "one", ["us", "ss"]).parents[2])
    report.run.cells[0].config["model"]["base"] = "pretrained"
    assert {entry.stage for entry in facts_of(report).entries} == {"distill against pretrained"}


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
        write_gathered([], tmp_path / "file", published=read_published())


def test_runs_of_a_sweep_stand_by_temperature(tmp_path: Path) -> None:
    entries = []
    for temperature, labels in ((0.0, ["ss", "uu"]), (0.7, ["us", "uu"])):
        run = tmp_path / f"t={temperature}"
        folder = write_cell(run, labels, scores={"similarity": informative(labels)})
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("temperature: 0.7", f"temperature: {temperature}"))
        entries += of_report(report_of(run))
    (table,) = [t for t in tables(entries, []) if t.name == "temperatures"]
    assert [row[3:] for row in table.rows] == [
        ("greedy", ONE_ANSWER, "50.0"),
        ("0.7", ONE_ANSWER, "75.0"),
        ("greedy", "similarity_argmin, layer 1", "50.0"),
        ("0.7", "similarity_argmin, layer 1", "50.0"),
    ]
    one_of_them = [e for e in entries if e.temperature == 0.7]
    assert "temperatures" not in {t.name for t in tables(one_of_them, [])}
