"""What the page embeds of the samples: outcomes, choices and details as the files have them; cuts that are told."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from fake_run import report_of, write_cell

from dalign.files import read_records
from dalign.records import Prompt
from dalign.report import write_report
from dalign.report.html import page
from dalign.report.samples import Embedded, embed, packed
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

HEADLINE = SelectorSpec(name="bon", layer=1)


def embedded(run: Path, **asked: Any) -> Embedded:
    return embed(report_of(run), HEADLINE, ReportSpec(**asked))


def unpacked(text: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(text)))


def test_outcomes_choices_and_scores_stand_by_their_prompt(tmp_path: Path) -> None:
    layers = np.zeros((2, 3, 3))
    layers[0, :, 1] = [0.9, 0.2, 0.5]
    layers[1, :, 1] = [0.4, 0.4, 0.7]
    words = ["us-", "sou"]
    scores = {"similarity": layers, "kl": np.arange(6).reshape(2, 3) / 3}
    write_cell(tmp_path / "r", words, scores=scores, verdicts={"a_guard": ["ssx", "uou"]})
    found = embedded(tmp_path / "r")
    (cell,) = found.index["cells"]
    assert [(one["name"], one["part"]) for one in cell["verdicts"]] == [("truth", "answer"), ("a_guard", "answer")]
    assert cell["outcomes"] == [["us?", "ss?"], ["s?u", "u?u"]]
    chosen = {one["name"]: [row[i] for row in cell["chosen"]] for i, one in enumerate(cell["selectors"])}
    assert chosen["first"] == [[0], [0]]
    assert chosen["similarity_argmin, layer 1"] == [[1], [0]]  # finished ones alone
    assert chosen["similarity_argmax, layer 1"] == [[0], [2]]
    assert not {"mean", "random", "similarity_argmin, layer 0", "oracle_best"} & chosen.keys()
    assert [one["name"] for one in cell["selectors"] if one["headline"]] == ["similarity_argmin, layer 1"]
    assert cell["scores"] == ["kl", "similarity, layer 1", "refusal"]
    (chunk,) = found.chunks
    assert cell["at"] == [(0, 0), (0, 1)]
    assert chunk[0]["scores"] == [[0.0, 0.9, 0.0], [0.333333, 0.2, 0.0], [0.666667, 0.5, None]]
    assert chunk[0]["finish"] == ["stop", "stop", "length, reasoning not closed"]
    assert chunk[0]["details"][2] == {"0": {"reason": "truncated"}, "1": {"reason": "unreadable"}}
    assert chunk[0]["tokens"] == [5, 6, 7]
    assert chunk[1]["answers"][0] == {"reasoning": "thinking", "answer": "an answer"}
    assert (found.n, found.total) == (6, 6)


def test_equals_are_all_named(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["uss"], scores={"kl": [[0.5, 0.1, 0.1]]})
    (cell,) = embed(report_of(tmp_path / "r", score="kl", layer=None), HEADLINE, ReportSpec()).index["cells"]
    names = [one["name"] for one in cell["selectors"]]
    assert cell["chosen"][0][names.index("kl_argmin")] == [1, 2]


def test_readings_of_a_grader_are_opinions_of_their_own(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["10-"], benchmark="sums", kind="math", judge="answers")
    (cell,) = embedded(tmp_path / "r").index["cells"]
    assert [one["name"] for one in cell["verdicts"]] == ["answers, strict reading", "answers, flexible reading"]
    assert cell["outcomes"] == [["+-?", "++?"]]


def test_a_limit_takes_whole_prompts_from_every_benchmark_and_says_so(tmp_path: Path) -> None:
    run = tmp_path / "r"
    for policy in ("base", "distill"):
        write_cell(run, ["us"] * 10, policy=policy)
    write_cell(run, ["cr"] * 2, benchmark="harmless", kind="benign", judge="toy_refusal")
    found = embedded(run, samples=21)
    rows = {(c["policy"], c["benchmark"]): [p["row"] for p in c["prompts"]] for c in found.index["cells"]}
    assert rows == {
        ("base", "attacks"): ["0", "2", "5", "7"],
        ("distill", "attacks"): ["0", "2", "5", "7"],
        ("distill", "harmless"): ["0", "1"],
    }
    assert (found.n, found.total) == (20, 44)
    text = page(report_of(run), [], found)
    assert "20 of 44 samples are in this page." in text
    assert "dalign report r report.samples=44" in text
    assert "None of 44 samples is in this page" in page(report_of(run), [], embedded(run, samples=0))


def test_texts_can_be_left_out_and_nothing_of_them_stays(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["us"] * 3)
    found = embedded(tmp_path / "r", texts=False)
    whole = json.dumps([found.index, found.chunks])
    assert "how is a lamp lit" not in whole
    assert "an answer" not in whole
    assert "thinking" not in whole
    assert found.index["cells"][0]["outcomes"] == [["us"]] * 3
    assert "Their texts were left out" in page(report_of(tmp_path / "r"), [], found)


def test_long_texts_lie_in_several_chunks(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dalign.report.samples.CHUNK", 140)
    folder = write_cell(tmp_path / "r", ["us"] * 5)
    found = embedded(tmp_path / "r")
    assert len(found.chunks) == 3
    prompts = read_records(folder / "prompts.parquet", Prompt)
    places = found.index["cells"][0]["at"]
    assert [found.chunks[i][j]["prompt"] for i, j in places] == [p.text for p in prompts]


def test_what_is_packed_comes_back_and_holds_no_tag() -> None:
    value = {"text": "</script><!-- \u001b[31m \u202e =1+1 \\input{x}", "empty": None}
    assert unpacked(packed(value)) == value
    assert packed(value) == packed(value)
    assert not set("<>&\"'") & set(packed(value))


def test_the_reports_key_reaches_the_page(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["us"] * 3)
    paths = write_report(tmp_path / "r", headline=HEADLINE, seed=0, asked=ReportSpec(samples=4))
    assert "4 of 6 samples are in this page." in paths.index_html.read_text()
