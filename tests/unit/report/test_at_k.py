"""Best of k in the report: by hand, against every subset, at the ends, with finish flags, and what is written."""

from __future__ import annotations

import csv
import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_run import informative, one, report_of, write_cell

from dalign.report import write_report
from dalign.report.at_k import at_k_tables, curve_of, first_sections, ks_below, monte_carlo_note
from dalign.report.few import wilson
from dalign.report.k_figure import spread
from dalign.report.rows import Row
from dalign.report.tables import Report
from dalign.select import SELECTORS, SelectorInput, uniform_weights
from dalign.specs.sampling import SelectorSpec

LABELS = ["usss", "uuss", "suus", "s-us", "xsuu", "--us"]


def at(report: Report, k: int, **want: object) -> Row:
    (row,) = [r for r in report.at_k if r.k == k and all(getattr(r, key) == value for key, value in want.items())]
    return row


@pytest.fixture
def report(tmp_path: Path) -> Report:
    kl = np.random.default_rng(2).integers(0, 3, (6, 4)).astype(float)
    kl[0, 0] = np.nan
    write_cell(tmp_path / "r", LABELS, scores={"similarity": informative(LABELS), "kl": kl})
    return report_of(tmp_path / "r")


def test_the_safe_one_of_two_by_hand(tmp_path: Path) -> None:
    """One unsafe of four is chosen in no pair, two of four in one pair of six, three in three."""
    labels = ["usss", "uuss", "uuus"]
    write_cell(tmp_path / "r", labels, scores={"similarity": informative(labels)})
    row = at(report_of(tmp_path / "r"), 2, selector="similarity_argmin")
    assert row.value == pytest.approx((0 + 1 / 6 + 3 / 6) / 3)
    assert row.safe_finished == pytest.approx((1 + 5 / 6 + 3 / 6) / 3)
    assert (row.baseline, row.difference) == (0.5, pytest.approx(row.value - 0.5))
    assert (row.layer, row.layer_chosen_on, row.n_samples, row.p_value, row.claim, row.family) == (
        1,
        "config",
        4,
        None,
        "",
        "",
    )


def test_every_number_is_the_mean_over_every_subset(report: Report) -> None:
    """Each prompt: over the subsets, the scored weight of unsafe ones, of safe and finished ones, and the rest."""
    cell = report.run.cells[0]
    letters = np.array([list(word) for word in LABELS])
    for name, scores, sign in (
        ("similarity_argmin", cell.scores["similarity"][:, :, 1], 1),
        ("kl_argmax", cell.scores["kl"], -1),
    ):
        for k in (1, 2, 3):
            rates, safe, unscored = [], 0.0, 0.0
            for word, row, done in zip(letters, scores, cell.finished_PN, strict=True):
                hit = kept = lost = 0.0
                subsets = list(combinations(range(4), k))
                for subset in subsets:
                    can = [i for i in subset if done[i] and not np.isnan(row[i])]
                    best = [i for i in can if sign * row[i] == min(sign * row[j] for j in can)]
                    hit += sum(word[i] == "u" for i in best) / max(len(best), 1)
                    kept += sum(word[i] == "s" for i in best) / max(len(best), 1)
                    lost += 1 - sum(word[i] in "us" for i in best) / max(len(best), 1)
                rates.append(hit / (hit + kept) if hit + kept else np.nan)
                safe, unscored = safe + kept / len(subsets) / 6, unscored + lost / len(subsets)
            found = at(report, k, selector=name)
            assert found.value == pytest.approx(np.nanmean(rates)), (name, k)
            assert found.safe_finished == pytest.approx(safe)
            assert found.n_unscored == pytest.approx(unscored)
            assert found.ci_low <= found.value <= found.ci_high


def test_one_of_k_is_one_answer_and_the_ends_meet(report: Report) -> None:
    """At k = 1 there is nothing to choose: whoever asks, it is a finished sample; at k = N the report's own row."""
    rows = {r.selector: r for r in report.at_k if r.k == 1 and not r.peeks}
    mean = one(report, selector="mean")
    for name in ("random", "shortest", "longest", "similarity_argmin", "similarity_argmax"):
        assert rows[name].value == pytest.approx(mean.value)
        assert rows[name].n_unscored == mean.n_unscored, "cut off, empty and unreadable ones are unscored either way"
    (section,) = first_sections(report)
    curves = curve_of(report, section, "distill", "attacks")
    assert set(curves[("similarity_argmin", 1)]) == {1, 2, 3, 4}
    assert curves[("similarity_argmin", 1)][4] is one(report, selector="similarity_argmin", layer=1)
    assert ("similarity_argmin", 2) not in curves, "only the shown layer has a curve"
    assert list(curves)[-2:] == [("oracle_best", None), ("oracle_worst", None)]
    assert curves[("oracle_best", None)][4] is one(report, selector="oracle_best")


def test_an_interval_of_few_expected_events_does_not_run_away(tmp_path: Path) -> None:
    """Of 40 prompts six have one unsafe sample of eight: 0.1 expected each at the best of 4, less than one in all."""
    rng = np.random.default_rng(0)
    labels = ["usssssss"] * 6 + ["ssssssss"] * 34
    write_cell(tmp_path / "r", labels, scores={"kl": rng.random((40, 8))})
    found = report_of(tmp_path / "r", score="kl", layer=None)
    low, high = wilson(np.array([6 / 8 / 40]), np.array([40.0]))
    row = at(found, 4, selector="random")
    assert (row.value, row.ci_low, row.ci_high) == pytest.approx((6 / 8 / 40, low.item(), high.item()))
    assert row.ci_high < 0.15


def test_policies_without_scores_and_second_judges_have_no_curves(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", LABELS, scores={"kl": np.zeros((6, 4))}, verdicts={"toy_guard": LABELS})
    write_cell(tmp_path / "r", LABELS, policy="base")
    found = report_of(tmp_path / "r", score="kl", layer=None)
    assert {(row.policy, row.judge) for row in found.at_k} == {("distill", "truth")}


def test_the_worst_of_k_by_the_labels_is_pass_at_k(tmp_path: Path) -> None:
    """Two events of four: 1 - C(2, k) / C(4, k)."""
    write_cell(tmp_path / "r", ["uuss"] * 3, scores={"kl": np.zeros((3, 4))})
    report = report_of(tmp_path / "r", score="kl", layer=None)
    assert [at(report, k, selector="oracle_worst").value for k in (1, 2, 3)] == [0.5, pytest.approx(5 / 6), 1.0]
    assert [at(report, k, selector="kl_argmin").value for k in (1, 2, 3)] == [0.5] * 3, "all tied is random"


def test_more_right_answers_are_better(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["1100"] * 3, kind="math", judge="answers", scores={"kl": np.zeros((3, 4))})
    report = report_of(tmp_path / "r", score="kl", layer=None)
    assert at(report, 2, selector="oracle_best").value == pytest.approx(5 / 6)
    assert {row.reading for row in report.at_k} == {"strict"}, "flexible readings and subsets have no curves"


@pytest.mark.parametrize(
    ("n", "wanted"), [(1, ()), (3, (1, 2)), (17, tuple(range(1, 17))), (64, (*range(1, 17), 24, 32, 48))]
)
def test_every_k_to_sixteen_has_a_row_and_some_later_ones(n: int, wanted: tuple[int, ...]) -> None:
    assert ks_below(n) == wanted


def test_a_single_sample_has_no_curve(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", ["u", "s"], scores={"kl": np.zeros((2, 1))})
    report = report_of(tmp_path / "r", score="kl", layer=None)
    assert report.at_k == ()
    assert at_k_tables(report) == []


def test_the_tables_name_every_selector_and_k(report: Report) -> None:
    (table,) = at_k_tables(report)
    assert table.head == ("selector", "layer", "k = 1", "k = 2", "k = 4")
    lines = {row[0]: row for row in table.rows}
    assert {"random", "shortest", "kl_argmax", "similarity_argmin", "oracle_best"} <= set(lines)
    row = at(report, 2, selector="kl_argmax")
    rate = round(100 * (row.value or 0))
    assert lines["kl_argmax"][3].startswith(f"{rate} [")
    assert lines["kl_argmax"][3].endswith(f" / {100 * (row.safe_finished or 0):.0f} / {100 * row.n_unscored / 6:.0f}")


def nearest_to_the_mean(inputs: SelectorInput, eligible_PN: np.ndarray) -> np.ndarray:
    """A selector that looks at the siblings which are there, and ties often."""
    return uniform_weights(eligible_PN & (eligible_PN.sum(axis=1, keepdims=True) % 2 == 1))


def test_random_subsets_leave_an_error_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SELECTORS, "odd", nearest_to_the_mean)
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("us"), 17)) for _ in range(4)]
    write_cell(tmp_path / "r", words, scores={"kl": rng.random((4, 17))})
    report = report_of(tmp_path / "r", score="kl", layer=None)
    errors = {r.selector for r in report.at_k if r.mc_error is not None}
    assert errors == {"odd", "medoid"}, "what compares samples"
    assert 0 < (at(report, 3, selector="odd").mc_error or 0) < 0.01
    assert at(report, 2, selector="odd").n_unscored == 4, "an even number has no odd one: nothing to choose"
    told = "Best of k by medoid, odd is the mean over random subsets"
    assert any(told in note for note in report.notes)
    assert monte_carlo_note([r for r in report.at_k if r.selector not in errors]) == ""


def test_results_have_them_with_their_k_and_the_page_shows_them(tmp_path: Path) -> None:
    write_cell(tmp_path / "r", LABELS, scores={"similarity": informative(LABELS)})
    paths = write_report(tmp_path / "r", headline=SelectorSpec(name="bon", layer=1), seed=0)
    rows = json.loads(paths.results_json.read_text())["rows"]
    curve = [r for r in rows if (r["selector"], r["layer"], r["subset"]) == ("similarity_argmin", 1, "all")]
    assert sorted(r["k"] for r in curve) == [1, 2, 3, 4]
    with paths.results_csv.open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert {r["p_value"] for r in table if 1 < int(r["k"]) < 4} == {""}
    text = paths.index_html.read_text()
    assert 'href="#best_of_k"' in text
    assert 'aria-label="best of k distill"' in text
    assert "similarity_argmin</text>" in text, "curves are named where they end"


def test_names_beside_curves_keep_apart_and_in_order() -> None:
    assert spread([0.1, 0.5], 0.1) == [0.1, 0.5]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    placed = spread([0.0, 0.01, 0.02, 0.9], 0.1)
    assert all(b - a >= 0.1 - 1e-12 for a, b in pairwise(placed))
    assert spread([], 0.1) == []
