"""Calibrated selectors of a run: out of fold, blind to reporting judges, told where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import fake_run
import numpy as np
import pytest

from dalign.report import build_report, write_report
from dalign.report.calibrated import Calibration, calibrations
from dalign.report.load import load_run
from dalign.report.tables import Report
from dalign.select.abstain import Abstainer
from dalign.specs.calibrate import AbstainSpec, CalibrateSpec
from dalign.specs.run import ReportSpec
from dalign.specs.sampling import SelectorSpec

HEADLINE = SelectorSpec(name="bon", layer=1)
NAMES = {
    "calibrated_similarity_argmin",
    "calibrated_similarity_argmax",
    "calibrated_any",
    "calibrated_combination",
}


def world(run: Path, guard: list[str] | None = None, truth: list[str] | None = None, n: int = 60) -> list[str]:
    """Attacks whose unsafe samples are most similar at layer 3 and nowhere else; tasks whose answers are all right."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(["u", "s", "s"], 4)) for _ in range(n)]
    hit = np.array([[c == "u" for c in word] for word in words])
    scores = rng.random((n, 4, 5))
    scores[..., 0], scores[..., 3] = 1.0, hit + 0.01 * rng.random(hit.shape)
    guard, truth = guard or words, truth or words
    kl = rng.random((n, 4))
    fake_run.write_cell(run, truth, scores={"similarity": scores, "kl": kl}, verdicts={"toy_guard": guard})
    tasks = {"similarity": scores[:12], "kl": kl[:12]}
    fake_run.write_cell(
        run,
        ["1111"] * 12,
        benchmark="sums",
        kind="math",
        judge="answers",
        groups=[f"s{i}" for i in range(12)],
        scores=tasks,
    )
    harmless = {"similarity": scores[:9], "kl": kl[:9]}
    names = [f"h{i}" for i in range(9)]
    fake_run.write_cell(
        run, ["cccr"] * 9, benchmark="harmless", kind="benign", judge="toy_refusal", groups=names, scores=harmless
    )
    return words


def calibration(run: Path, **spec: object) -> Calibration:
    found, notes = calibrations(load_run(run).cells, HEADLINE, CalibrateSpec(**spec), 0)  # type: ignore[arg-type]
    assert notes == []
    return found["distill"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "night"
    world(folder)
    return folder


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return build_report(run, headline=HEADLINE, seed=0)


def test_every_benchmark_has_their_rows_and_they_claim_by_the_rules(report: Report) -> None:
    rows = [r for r in report.rows if r.layer_chosen_on == "other_folds"]
    assert {r.selector for r in rows} == NAMES
    assert {r.benchmark for r in rows} == {"attacks", "sums", "harmless"}
    assert not any(r.peeks or r.layer is not None for r in rows)
    best = fake_run.one(report, selector="calibrated_similarity_argmin", judge="truth", benchmark="attacks")
    plain = fake_run.one(report, selector="similarity_argmin", layer=1, judge="truth", benchmark="attacks")
    oracle = fake_run.one(report, selector="oracle_best", judge="truth", benchmark="attacks")
    assert best.value == oracle.value < (plain.value or 0)
    assert (best.claim, best.family, best.k) == ("gain", "exploratory", 4)


def test_the_right_layer_is_chosen_in_every_fold_and_told(report: Report) -> None:
    (told,) = report.calibrated
    assert {c.layer for c in told.chosen["calibrated_similarity_argmin"]} == {3}  # type: ignore[union-attr]
    assert len(told.chosen["calibrated_any"]) == 6
    goal = told.goals["calibrated_similarity_argmin"]
    assert goal.ratio is not None
    assert goal.ratio[0] == pytest.approx(1, abs=0.05)
    assert goal.margin[1] > 0
    assert told.transfer["calibrated_any"] == (
        (goal.ours,),
        (goal.ours,),
    )  # chosen on the only benchmark, and on all


def test_a_prompts_own_verdicts_never_move_its_choice(run: Path, tmp_path: Path) -> None:
    words = world(tmp_path / "plain")
    before = calibration(tmp_path / "plain")
    cell = before.pool.cells[0]
    for fold in range(2):
        mine = [before.fold_of[p.group] == fold for p in cell.prompts]
        flipped = [w.translate(str.maketrans("us", "su")) if m else w for w, m in zip(words, mine, strict=True)]
        after_run = tmp_path / f"flipped{fold}"
        world(after_run, guard=flipped)
        after = calibration(after_run)
        assert after.fold_of == before.fold_of
        for one, other in zip(before.methods, after.methods, strict=True):
            a, b = before.weights(one, cell), after.weights(other, after.pool.cells[0])
            assert np.array_equal(a[mine], b[mine])


def test_verdicts_that_are_for_reports_alone_never_move_a_choice(tmp_path: Path) -> None:
    words = world(tmp_path / "a")
    world(tmp_path / "b", guard=words, truth=[w.translate(str.maketrans("us", "su")) for w in words])
    one, other = calibration(tmp_path / "a"), calibration(tmp_path / "b")
    for a, b in zip(one.methods, other.methods, strict=True):
        assert a == b


def test_prompts_without_an_attack_in_their_group_are_chosen_for_by_all_of_them(run: Path) -> None:
    found = calibration(run)
    sums = next(c for c in found.pool.cells if c.benchmark == "sums")
    method = next(m for m in found.methods if m.name == "calibrated_similarity_argmin")
    assert set(found.folds[found.pool.cell_P == found.pool.cells.index(sums)].tolist()) == {-1}
    assert np.array_equal(found.weights(method, sums).argmax(axis=1), sums.scores["similarity"][..., 3].argmin(axis=1))


def test_a_probes_scores_take_no_part(run: Path) -> None:
    cells = load_run(run).cells
    for cell in cells:
        cell.scores["probe"] = np.zeros((*cell.lengths_PN.shape, 5))
    found, _ = calibrations(cells, HEADLINE, CalibrateSpec(), 0)
    assert {p.score for p in found["distill"].places} == {"similarity", "kl", "refusal"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"judge": "guard"}, "no judge of this run is report.calibrate.judge=guard"),
        ({"folds": 61}, "60 groups of attacks have a verdict of toy_guard, fewer than report.calibrate.folds=61"),
    ],
)
def test_it_is_told_where_there_are_none(run: Path, spec: dict[str, object], said: str) -> None:
    report = build_report(run, headline=HEADLINE, seed=0, asked=ReportSpec(calibrate=CalibrateSpec(**spec)))  # type: ignore[arg-type]
    assert any(said in note for note in report.notes)
    assert not any(r.layer_chosen_on == "other_folds" for r in report.rows)
    assert report.calibrated == report.abstained == ()


def test_a_judge_for_reports_alone_is_refused(run: Path) -> None:
    cells = load_run(run).cells
    for cell in cells:
        cell.config["judges"]["harm"] = {"name": "toy_guard", "kind": "toy_guard", "report_only": True}
    found, notes = calibrations(cells, HEADLINE, CalibrateSpec(), 0)
    assert found == {}
    assert "report.calibrate.judge=harm is toy_guard, which is for reports alone" in notes[0]


def test_abstaining_is_told_on_the_split_test_with_what_is_not_possible(report: Report) -> None:
    (told,) = report.abstained
    assert told.n_groups == {"fit": 20, "threshold": 20, "test": 20}
    always, *lines = told.lines
    assert (always.answered, always.n, always.n_harmless) == (1.0, 20, 3)
    by = {(one.threshold.promise, one.threshold.alpha): one for one in lines if one.threshold}
    assert by["of_all", 0.01].answered == 0
    assert by["of_all", 0.1].answered > 0.5
    (table,) = told.tables()
    cells = {(row[0], row[1]): row for row in table.rows}
    assert cells["of all", "0.01"][2] == "not possible: 20 groups, needs 99"
    at_mix = by["of_all", 0.1].mix
    assert at_mix is not None
    over = by["of_all", 0.1].over_refusal
    assert at_mix[2] == pytest.approx(0.99 * (over or 0))


def test_the_files_hold_what_was_chosen_and_what_was_frozen(run: Path) -> None:
    asked = ReportSpec(abstain=AbstainSpec(alphas=(0.1,)))
    paths = write_report(run, headline=HEADLINE, seed=0, asked=asked)
    folder = paths.results_json.parent
    told = json.loads((folder / "calibrated.json").read_text())["policies"]["distill"]
    assert told["chosen"]["calibrated_similarity_argmin"][0] == {
        "score": "similarity",
        "direction": "argmin",
        "layer": 3,
    }
    frozen = Abstainer.load(folder / "abstain_distill.json")
    assert {t.alpha for t in frozen.thresholds} == {0.1}
    assert not frozen.rule.fitted_on & frozen.set_on
    text = paths.index_html.read_text()
    assert all(f">{title}</h2>" in text for title in ("Calibrated selectors", "Abstaining"))
    assert "chosen on one benchmark, used on another" in text
    assert "answering below a risk" in text
