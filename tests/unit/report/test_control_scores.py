"""Control scores in a report: taken in by name where they fit, and no ground for any claim."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_run import BASE, informative, one, report_of, score_records, write_cell

from dalign.errors import ArtifactError
from dalign.files import read_records
from dalign.layout import file_hash
from dalign.records import Prompt, Sample
from dalign.report.auroc_tables import auroc_tables
from dalign.report.caveats import caveats
from dalign.report.load import load_run
from dalign.report.pool import pool_of
from dalign.report.run_facts import of_report
from dalign.scores_file import write_scores
from dalign.store import StageFolder

RNG = np.random.default_rng(0)
LABELS = ["".join(RNG.permutation(list("uusss"))) for _ in range(30)]


def control(run: Path, name: str, scores: dict[str, np.ndarray], *, finish: bool = True) -> Path:
    """A control's folder over the samples of the run's one cell, as the stage leaves it."""
    cell = run / "evaluate" / "distill" / "attacks"
    prompts, samples = read_records(cell / "prompts.parquet", Prompt), read_records(cell / "samples.parquet", Sample)
    folder = run / "control" / "distill" / "attacks" / name
    with StageFolder(folder, config={}, results={}, inputs={"samples": file_hash(cell / "samples.parquet")}) as stage:
        named = {f"control:{key}": values for key, values in scores.items()}
        write_scores(folder / "scores.safetensors", prompts, samples, score_records(samples, named), base=BASE)
        if finish:
            stage.finish(["scores.safetensors"])
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_cell(tmp_path / "r", LABELS, scores={"similarity": informative(LABELS, noise=2.0)})
    return tmp_path / "r"


def test_they_are_scores_of_their_own_names_and_have_all_that_scores_have(run: Path) -> None:
    told, other = informative(LABELS), informative(LABELS, "s")
    control(run, "random_lora", {"random_lora-0": told, "random_lora-1": other})
    report = report_of(run)
    (cell,) = report.run.cells
    assert np.allclose(cell.scores["control:random_lora-0"], told)
    assert np.allclose(cell.scores["control:random_lora-1"], other)
    assert cell.attributed == {"similarity"}
    best, worst = (one(report, selector=f"control:random_lora-0_{end}", layer=1) for end in ("argmin", "argmax"))
    assert (best.value, worst.value) == (0.0, 1.0)
    assert (best.auroc_within_prompt, best.ci_high is not None) == (1.0, True)
    assert one(report, selector="control:random_lora-0_argmin", layer=0).value == pytest.approx(0.4)
    (table,) = auroc_tables(report)
    assert {row[1] for row in table.rows} >= {"similarity", "control:random_lora-0", "control:random_lora-1"}
    assert any("claim nothing" in text for text in caveats(report))
    shutil.rmtree(run / "control")
    assert not any("claim nothing" in text for text in caveats(report_of(run)))


def test_controls_claim_nothing_and_change_no_adjusted_p_value(run: Path) -> None:
    control(run, "random_lora", {"random_lora-0": informative(LABELS)})
    control(run, "closings", {"closings": informative(LABELS)})
    report = report_of(run)
    own = [row for row in report.rows if "control:" in row.selector]
    assert len(own) > 8
    sure = one(report, selector="control:random_lora-0_argmin", layer=1)
    assert sure.difference_ci_high is not None
    assert sure.difference_ci_high < 0, "as sure a fall as there can be"
    assert {(row.p_value, row.p_adjusted, row.family, row.claim) for row in own} == {(None, None, "", "")}
    before = {
        (r.selector, r.layer, r.subset): (r.p_adjusted, r.claim) for r in report.rows if "control:" not in r.selector
    }
    shutil.rmtree(run / "control")
    after = {(r.selector, r.layer, r.subset): (r.p_adjusted, r.claim) for r in report_of(run).rows}
    assert before == after


def test_swapped_ends_were_made_by_labels_and_are_marked(run: Path) -> None:
    control(run, "closings", {"closings": informative(LABELS)})
    control(run, "same_closing", {"same_closing": informative(LABELS)})
    report = report_of(run)
    marked = {row.selector: row.peeks for row in report.rows if row.selector.startswith("control:")}
    assert marked == {
        "control:closings_argmin": True,
        "control:closings_argmax": True,
        "control:same_closing_argmin": False,
        "control:same_closing_argmax": False,
    }
    assert not any("best_layer_control:closings" in row.selector for row in report.rows)
    layers = [row.layer for row in report.rows if row.selector == "control:closings_argmin" and row.subset == "all"]
    assert layers == [0, 1, 2]
    (table,) = auroc_tables(report)
    assert ["control:closings", "1"] in [list(row[1:3]) for row in table.rows]
    told = [entry for entry in of_report(report) if entry.selector.startswith("control:closings_argmin")]
    assert [(entry.selector, entry.peeks) for entry in told] == [("control:closings_argmin, layer 1", True)]


def test_nothing_is_learnt_from_them(run: Path) -> None:
    control(run, "random_lora", {"random_lora-0": informative(LABELS)})
    pool = pool_of(load_run(run).cells, "truth")
    assert pool is not None
    assert set(pool.inputs.scores) == {"similarity", "refusal"}


def test_what_is_of_other_samples_or_unfinished_is_left_out_and_told(run: Path) -> None:
    stale = control(run, "random_lora", {"random_lora-0": informative(LABELS)})
    open_one = control(run, "closings", {"closings": informative(LABELS)}, finish=False)
    write_cell(run, LABELS[::-1], scores={"similarity": informative(LABELS[::-1])}, said="another answer")
    found = load_run(run)
    assert set(found.cells[0].scores) == {"similarity", "refusal"}
    assert found.notes == (
        f"{open_one} is unfinished and left out: rerun stage=control.",
        f"{stale} is of other samples than the evaluation's: delete it and rerun stage=control.",
    )


def test_a_damaged_file_is_an_error_that_names_it(run: Path) -> None:
    folder = control(run, "random_lora", {"random_lora-0": informative(LABELS)})
    (folder / "scores.safetensors").write_bytes((folder / "scores.safetensors").read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=r"scores.safetensors: missing or cut short"):
        load_run(run)
