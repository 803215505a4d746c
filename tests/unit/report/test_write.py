"""The files of a report: schema, plain numbers, inert text, the same bytes each time; and the screen."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import write_cell

from dalign.files import write_json
from dalign.report import ReportPaths, build_report, summary_text, write_report
from dalign.report.rows import CSV_KEYS, JSON_KEYS
from dalign.report.svg import inline
from dalign.report.tables import csv_text, with_interval
from dalign.specs.sampling import SelectorSpec
from dalign.store import StageFolder

TEXT = "run model teacher policy benchmark subset metric judge judged protocol selector"
RATES = "n_unscored finished_rate truncated_rate empty_rate value_if_unscored_safe value_if_unscored_unsafe"
OPEN = """value ci_low ci_high baseline difference difference_ci_low difference_ci_high relative_change
    relative_change_ci_low relative_change_ci_high p_value p_adjusted"""
SCHEMA: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(TEXT.split(), (str,)),
    **dict.fromkeys(("reading", "layer_chosen_on"), (str, type(None))),
    **dict.fromkeys(("seed", "k", "n_samples", "n_prompts", "n_paired"), (int,)),
    **dict.fromkeys(("world_version", "layer"), (int, type(None))),
    **dict.fromkeys(RATES.split(), (int, float)),
    **dict.fromkeys(OPEN.split(), (int, float, type(None))),
}
EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    run = tmp_path_factory.mktemp("runs") / "night=1"
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("uss-x"), 4)) for _ in range(24)]
    scores = {
        "similarity": np.concatenate([np.ones((24, 4, 1)), rng.random((24, 4, 3))], axis=2),
        "kl": rng.random((24, 4)),
    }
    scores["kl"][0, 0] = np.nan
    write_cell(run, words, scores=scores, verdicts={"toy_guard": words, "odd <b>&judge": words})
    write_cell(run, words, policy="base", verdicts={"toy_guard": words})
    write_cell(
        run, ["10-1"] * 6, benchmark="sums", kind="math", judge="answers", scores={k: v[:6] for k, v in scores.items()}
    )
    write_cell(run, ["crcc"] * 6, benchmark="harmless", kind="benign", judge="toy_refusal")
    write_cell(run, ["us"] * 3, benchmark="late", finish=False)
    return write_report(run, headline=SelectorSpec(name="bon"), seed=0)


def test_the_teachers_unsafe_traces_are_drawn_where_a_judge_saw_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_cell(run, ["us"] * 3)
    counts = {"Self-Harm": {"kept": 6, "unsafe": 2}, "benign": {"kept": 3, "truncated": 1}}
    shown = {}
    for judge in (None, "toy_guard"):
        with StageFolder(run / "traces", config={"judge": judge}, results={}, inputs={}) as stage:
            write_json(run / "traces" / "summary.json", {"categories": counts, "judge": judge})
            stage.finish(["summary.json"])
        shown[judge] = write_report(run, headline=SelectorSpec(name="bon"), seed=0).index_html.read_text()
    assert "teacher traces" not in shown[None]
    assert "2 traces of 12 judged unsafe" in shown["toy_guard"]
    assert "Self-Harm (n = 8)" in shown["toy_guard"]


def test_results_json_has_the_schema_and_no_nan(paths: ReportPaths) -> None:
    text = paths.results_json.read_text()

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} was written")

    found = json.loads(text, parse_constant=refuse)
    assert set(found) == {"schema", "rows"}
    assert found["schema"] == 1
    assert set(JSON_KEYS) == set(SCHEMA)
    for row in found["rows"]:
        assert set(row) == set(SCHEMA)
        for key, kinds in SCHEMA.items():
            assert type(row[key]) in kinds, (key, row[key])
        rates = (
            "value",
            "ci_low",
            "ci_high",
            "baseline",
            "finished_rate",
            "truncated_rate",
            "empty_rate",
            "p_value",
            "p_adjusted",
        )
        assert all(0 <= row[key] <= 1 for key in rates if row[key] is not None)
        assert row["n_paired"] + row["n_unscored"] >= row["n_prompts"] - 1e-9
        if row["value"] is not None:
            assert row["ci_low"] <= row["value"] <= row["ci_high"]
            assert row["ci_high"] - row["ci_low"] > 0
            assert row["value_if_unscored_safe"] - 1e-12 <= (row["value"] if row["metric"] != "accuracy" else 1)
            assert row["difference"] == pytest.approx(row["value"] - row["baseline"], abs=1e-12)
    assert {row["metric"] for row in found["rows"]} == {"asr", "over_refusal", "accuracy"}
    assert {row["layer"] for row in found["rows"] if row["selector"] == "similarity_argmin"} == {0, 1, 2, 3}


def test_every_rated_row_sits_in_its_bounds(paths: ReportPaths) -> None:
    for row in paths.report.rows:
        if row.value is not None:
            bounds = sorted((row.value_if_unscored_safe, row.value_if_unscored_unsafe))
            assert bounds[0] - 1e-12 <= row.value <= bounds[1] + 1e-12


def test_results_csv_has_the_same_rows_and_extra_columns(paths: ReportPaths) -> None:
    with paths.results_csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == CSV_KEYS
    assert CSV_KEYS[: len(JSON_KEYS)] == JSON_KEYS
    table = json.loads(paths.results_json.read_text())["rows"]
    assert len(rows) == len(table)
    for text, row in zip(rows, table, strict=True):
        assert (float(text["value"]) if text["value"] else None) == row["value"]
        for key, value in row.items():
            assert (text[key] == "") == (value in (None, "")), (key, text[key], value)
    assert {row["claim"] for row in rows} <= {"", "gain", "loss"}
    assert {row["peeks"] for row in rows} == {"true", "false"}
    assert not any("nan" in cell.lower() for row in rows for cell in row.values())


def test_paper_error_16_small_floats_come_back_whole(paths: ReportPaths) -> None:
    from dataclasses import replace

    row = replace(paths.report.rows[0], value=1e-05, p_value=1.2345678901234567e-16)
    text = csv_text([row])
    (back,) = csv.DictReader(text.splitlines())
    assert (float(back["value"]), float(back["p_value"])) == (1e-05, 1.2345678901234567e-16)
    assert json.loads(json.dumps(row.to_json()))["value"] == 1e-05


def test_no_spreadsheet_formula_leaves_the_report(paths: ReportPaths) -> None:
    from dataclasses import replace

    (back,) = csv.DictReader(csv_text([replace(paths.report.rows[0], run="=1+1")]).splitlines())
    assert back["run"] == "'=1+1"


class Page(HTMLParser):
    """Collects tags, and checks that they nest."""

    VOID = ("meta", "br", "hr", "img", "input", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_the_page_is_self_contained_and_inert(paths: ReportPaths) -> None:
    text = paths.index_html.read_text()
    page = parsed(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"link", "iframe", "img", "object", "embed", "form", "base"}
    assert "svg" in names
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    data = [attrs for attrs in scripts if attrs]
    assert len(scripts) == len(data) + 1
    assert {attrs["type"] for attrs in data} == {"application/gzip"}
    assert not re.search(r"https?://|[ \"'(]//[a-z]|@import|javascript:|innerHTML|eval\(", text, re.IGNORECASE)
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    links = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("href", "src", "xlink:href")]
    assert all(v and v.startswith("#") for v in links)
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert "default-src 'none'" in policy
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*);", policy) == [f"'sha256-{digest}'"]
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert "odd &lt;b&gt;&amp;judge" in text
    assert "<b>" not in text


def test_the_page_holds_no_sample_text_in_plain_sight_and_says_what_matters(paths: ReportPaths) -> None:
    text = paths.index_html.read_text()
    assert "an answer</" not in text
    assert "how is a lamp lit" not in text
    for words in ("Placebo: choosing by similarity at layer 0", "equals random choice exactly", "late is unfinished",
                  "truth: truncated", "python evaluate.py world_seed=4 run=night=1 selector=kl", "world seed 4",
                  "Beside the paper", "oracle_best"):  # fmt: skip
        assert words in text, words


def test_names_cannot_close_the_page(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["us"] * 4, benchmark="set<i>", verdicts={EVIL: ["us"] * 4})
    text = write_report(tmp_path / "r", headline=SelectorSpec(name="bon"), seed=0).index_html.read_text()
    tags = parsed(text).tags
    assert "i" not in {tag for tag, _ in tags}
    assert len([tag for tag, attrs in tags if tag == "script" and not attrs]) == 1
    assert "&lt;/script&gt;" in text
    assert ">set&lt;i&gt;</td>" in text


def test_the_same_run_gives_the_same_bytes(paths: ReportPaths) -> None:
    files = (paths.results_json, paths.results_csv, paths.index_html)
    before = [file.read_bytes() for file in files]
    write_report(paths.index_html.parent.parent, headline=SelectorSpec(name="bon"), seed=0)
    assert [file.read_bytes() for file in files] == before
    learnt = ["abstain_distill.json", "calibrated.json"]
    written = sorted(p.name for p in paths.index_html.parent.iterdir())
    assert written == [*learnt, "index.html", "results.csv", "results.json"]


def test_progress_counts_the_cells(paths: ReportPaths) -> None:
    seen: list[tuple[int, int]] = []
    run = paths.index_html.parent.parent
    build_report(run, headline=SelectorSpec(name="bon"), seed=0, progress=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_screen_tells_a_newcomer_what_it_shows(paths: ReportPaths) -> None:
    text = summary_text(paths.report, paths.index_html, width=200)
    assert (
        text.index("SAFETY")
        < text.index("truth of the embedded world")
        < text.index("judge toy_guard")
        < text.index("UTILITY")
    )
    rows = [line for line in text.splitlines() if "attacks" in line and "distill" in line]
    mean, chosen = (
        next(
            r
            for r in paths.report.rows
            if r.policy == "distill"
            and r.judge == "truth"
            and r.selector == s
            and r.layer == layer
            and r.subset == "all"
        )
        for s, layer in (("mean", None), ("similarity_argmin", 1))
    )
    assert with_interval(mean.value, mean.ci_low, mean.ci_high) in rows[0]
    assert with_interval(chosen.difference, chosen.difference_ci_low, chosen.difference_ci_high, signed=True) in rows[0]
    assert "the one of 4 answers least similar to the base model (layer 1)" in text
    assert "distill on late is unfinished" in text
    assert str(paths.index_html) in text


def test_numbers_are_written_for_people() -> None:
    assert with_interval(0.414, 0.35, 0.481) == "41 [35, 48]"
    assert with_interval(-0.124, -0.19, 0.01, signed=True) == "−12 [−19, +1]"
    assert (with_interval(0.1, None, None), with_interval(None, 0.1, 0.2)) == ("10", "–")


def test_an_svg_loses_prolog_addresses_and_metadata() -> None:
    head = '<?xml version="1.0"?><!DOCTYPE svg "http://a"><svg xmlns="http://b" xmlns:xlink="http://c">'
    raw = f'{head}<metadata>http://d</metadata><use xlink:href="#x"/></svg>'
    assert inline(raw, "a_b") == '<svg role="img" aria-label="a b"><use href="#x"/></svg>'


def test_reading_results_needs_no_torch() -> None:
    code = "import sys, dalign.report; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("letter", "told"), [("x", "no verdicts to compare in 1"), ("u", "no clear difference in 1")])
def test_a_comparison_without_a_verdict_is_told_apart_from_one_without_a_difference(
    tmp_path: Path, letter: str, told: str
) -> None:
    run = tmp_path / "run"
    write_cell(run, [letter * 4] * 12, scores={"similarity": np.random.default_rng(0).random((12, 4, 4))})
    report = build_report(run, headline=SelectorSpec(name="bon"), seed=0)
    assert f"in 0 of 1 comparisons, {told} (" in " ".join(summary_text(report, tmp_path).split())
