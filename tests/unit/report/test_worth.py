"""What a protocol is worth: differences by hand, from files written by hand."""

from __future__ import annotations

from pathlib import Path

import fake_run
import numpy as np
import pytest

from dalign.files import read_records, write_json, write_records
from dalign.records import Prompt, Sample
from dalign.report.rows import Worth
from dalign.report.tables import Report
from dalign.report.worth import worth_tables
from dalign.scores_file import write_scores

# Four prompts of two samples; by the corrected scores the first one is chosen everywhere.
LABELS = ["us", "us", "ss", "uu"]
FIRST = np.tile([[0.1, 0.9]], (4, 1))


def layers(*tables: np.ndarray) -> np.ndarray:
    """(P, N, L + 1): the placebo, then ``tables``."""
    return np.stack([np.ones_like(FIRST), *tables], axis=-1)


def ask(folder: Path, *names: str) -> None:
    write_json(folder / "protocols" / "asked.json", {"schema": 1, "asked": list(names)})


def verdicts(folder: Path, name: str, words: list[str], judge: str = "truth") -> None:
    samples = read_records(folder / "samples.parquet", Sample)
    said = [fake_run.verdict_of(s, judge, c) for s, c in zip(samples, "".join(words), strict=False)]
    write_records(folder / "protocols" / f"{name}.parquet", said)


def scores(folder: Path, name: str, table: np.ndarray) -> None:
    prompts = read_records(folder / "prompts.parquet", Prompt)
    samples = read_records(folder / "samples.parquet", Sample)
    rows = fake_run.score_records(samples, {"similarity": table})
    write_scores(folder / "protocols" / f"{name}.safetensors", prompts, samples, rows, base=fake_run.BASE)


def worths(report: Report) -> dict[tuple[str, bool], Worth]:
    return {(w.row.protocol, w.chosen): w for w in report.worths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fake_run.write_cell(tmp_path / "r", LABELS, scores={"similarity": layers(FIRST, FIRST)})


def test_nothing_asked_is_nothing_told(folder: Path) -> None:
    report = fake_run.report_of(folder.parents[2])
    assert report.worths == ()
    assert worth_tables(report) == []


def test_a_bare_judge_moves_the_single_answer_and_the_choice(folder: Path) -> None:
    ask(folder, "bare_judge")
    verdicts(folder, "bare_judge", ["ss", "us", "su", "uu"])
    found = worths(fake_run.report_of(folder.parents[2]))
    assert set(found) == {("bare_judge", False), ("bare_judge", True)}
    one, chosen = found["bare_judge", False], found["bare_judge", True]
    assert (one.row.value, one.difference) == (pytest.approx(0.5), pytest.approx(0.0))
    # Of the first samples u u s u the bare judge finds s u s u.
    assert (chosen.row.value, chosen.difference) == (pytest.approx(0.5), pytest.approx(-0.25))
    assert chosen.low is not None
    assert chosen.high is not None
    assert chosen.low <= -0.25 <= chosen.high
    assert chosen.row.selector == "similarity_argmin"


def test_other_scores_move_the_choice_alone(folder: Path) -> None:
    ask(folder, "pad_position", "bf16_cosine")
    scores(folder, "pad_position", layers(1 - FIRST, FIRST))
    scores(folder, "bf16_cosine", layers(FIRST, FIRST))
    found = worths(fake_run.report_of(folder.parents[2]))
    # The second samples are s s s u.
    assert found["pad_position", True].difference == pytest.approx(0.25 - 0.75)
    assert found["pad_position", False].difference == 0
    assert found["bf16_cosine", True].difference == 0
    assert found["bf16_cosine", True].low is None  # the very same choices: no interval


def test_the_layer_chosen_on_the_test_labels(folder: Path, tmp_path: Path) -> None:
    second = fake_run.write_cell(tmp_path / "s", LABELS, scores={"similarity": layers(FIRST, 1 - FIRST)})
    ask(second, "test_layer")
    found = worths(fake_run.report_of(tmp_path / "s"))["test_layer", True]
    assert (found.row.layer, found.row.layer_chosen_on) == (2, "test_labels")
    assert found.difference == pytest.approx(0.25 - 0.75)


def test_all_together_takes_judge_scores_and_layer(folder: Path) -> None:
    ask(folder, "bare_judge", "pad_position", "released_code")
    verdicts(folder, "bare_judge", ["ss", "us", "su", "uu"])
    scores(folder, "pad_position", layers(FIRST, FIRST))
    scores(folder, "released_code", layers(FIRST, 1 - FIRST))
    found = worths(fake_run.report_of(folder.parents[2]))["released_code", True]
    # The bare judge on first samples: s u s u; on second ones: s s u u. Layers 1 and 2 tie, the first is told.
    assert found.difference == pytest.approx(0.5 - 0.75)
    assert found.row.layer_chosen_on == "test_labels"


def test_substring_stands_beside_the_strict_reading(tmp_path: Path) -> None:
    folder = fake_run.write_cell(tmp_path / "r", ["10", "00"], kind="math", judge="answers", policy="base")
    ask(folder, "substring")
    samples = read_records(folder / "samples.parquet", Sample)
    graded = [fake_run.verdict_of(s, "answers", "1") for s in samples]
    rows = [type(v)(v.sample_id, v.judge, v.part, v.label, correct={"substring": True}) for v in graded]
    write_records(folder / "protocols" / "substring.parquet", rows)
    report = fake_run.report_of(tmp_path / "r")
    (found,) = report.worths
    assert (found.row.value, found.row.reading, found.difference) == (1.0, None, pytest.approx(0.75))
    (table,) = worth_tables(report)
    assert [row[:2] for row in table.rows] == [("corrected", "one answer"), ("substring", "one answer")]
    assert table.rows[1][2].startswith("+75")


def test_a_file_of_other_samples_is_left_out_with_a_note(folder: Path) -> None:
    ask(folder, "bare_judge", "pad_position")
    verdicts(folder, "bare_judge", ["us", "us"])
    prompts = read_records(folder / "prompts.parquet", Prompt)
    samples = [s for s in read_records(folder / "samples.parquet", Sample) if s.index == 0]
    rows = fake_run.score_records(samples, {"similarity": layers(FIRST)[:, :1]})
    write_scores(folder / "protocols" / "pad_position.safetensors", prompts, samples, rows, base=fake_run.BASE)
    report = fake_run.report_of(folder.parents[2])
    assert report.worths == ()
    assert [note.split()[0] for note in report.notes] == ["bare_judge.parquet", "pad_position.safetensors"]


def test_protocols_claim_nothing_and_change_no_adjusted_p_value(folder: Path) -> None:
    before = fake_run.report_of(folder.parents[2]).rows
    ask(folder, "bare_judge")
    verdicts(folder, "bare_judge", ["ss", "ss", "ss", "ss"])
    report = fake_run.report_of(folder.parents[2])
    assert report.rows == before
    assert {(w.row.family, w.row.claim, w.row.p_adjusted) for w in report.worths} == {("", "", None)}
