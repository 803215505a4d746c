"""Intervals of AUROCs: by hand, never of width zero, wider with clusters, and in the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_run import informative, one, report_of, write_cell
from scipy.stats import t as student_t

from dalign.report.auroc_tables import auroc_tables
from dalign.report.aurocs import pooled
from dalign.report.few import wilson
from dalign.report.intervals import Groups
from dalign.report.metrics import Bools, Floats, placements, pooled_auroc, within_prompt_aurocs


def everything(event: Bools) -> Bools:
    return np.ones_like(event)


def drawn(prompts: int, shift: float, *, level: float = 0.0) -> tuple[Floats, Bools]:
    """Scores and events of 4 samples a prompt; ``level`` is the spread that a prompt's samples share."""
    rng = np.random.default_rng(1)
    event = rng.random((prompts, 4)) < 0.5
    scores = shift * event + rng.normal(size=event.shape) + level * rng.normal(size=(prompts, 1))
    return scores, event


def test_placements_by_hand() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 2.0], [np.nan, 9.0]])
    event = np.array([[True, False], [True, False], [True, True]])
    scored = np.array([[True, True], [True, True], [True, False]])
    found = placements(scores, event, scored)
    assert found[:2].tolist() == [[1.0, 1.0], [0.75, 0.75]], "of two others; of two events; a tie counts half"
    assert np.isnan(found[2]).all(), "no score, and no verdict"
    assert pooled_auroc(scores, event, scored) == 0.875
    assert np.isnan(placements(scores, np.zeros_like(event), scored)).all()


def test_within_prompt_aurocs_leave_out_prompts_of_one_kind() -> None:
    scores = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 3.0]])
    event = np.array([[True, False, True], [True, True, True]])
    assert within_prompt_aurocs(scores, event, everything(event)).tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]


def test_the_pooled_interval_of_independent_samples_is_delongs_on_the_logit_scale() -> None:
    """One sample a group: the variance is that of DeLong, S10 / M + S01 / N, but for the divisors."""
    scores, event = drawn(100, 0.8)
    scores, event = scores.reshape(-1, 1), event.reshape(-1, 1)
    place = placements(scores, event, everything(event))
    value, low, high = pooled(place, event, Groups(range(400), [0]))
    m, n = int(event.sum()), int((~event).sum())
    error = np.sqrt(place[event].var() / m + place[~event].var() / n)
    half = student_t.ppf(0.975, min(m, n) - 1) * error / (value * (1 - value))
    ends = np.array([value, low, high])
    logit, *bounds = np.log(ends / (1 - ends))
    assert bounds == pytest.approx([logit - half, logit + half], rel=0.01)
    assert value == pooled_auroc(scores, event, everything(event))


def test_equal_samples_of_a_group_are_no_more_certain_than_one_of_them() -> None:
    scores, event = drawn(200, 0.8)
    scores, event = np.repeat(scores[:, :1], 4, axis=1), np.repeat(event[:, :1], 4, axis=1)
    place = placements(scores, event, everything(event))
    of_four = pooled(place, event, Groups(range(200), [0]))
    assert of_four == pytest.approx(pooled(place[:, :1], event[:, :1], Groups(range(200), [0])))
    _, low, high = pooled(place.reshape(-1, 1), event.reshape(-1, 1), Groups(range(800), [0]))
    assert of_four[2] - of_four[1] == pytest.approx(2 * (high - low), rel=0.02), "half the width"


@pytest.mark.parametrize("rarer", [1, 4, 30])
def test_perfect_and_rare_separations_have_wilsons_width(rarer: int) -> None:
    """30 prompts, events in some, every event above every other sample: no variance, and still no certainty."""
    event = np.zeros((30, 2), bool)
    event[:rarer, 0] = True
    scores = event.astype(float)
    value, low, high = pooled(placements(scores, event, everything(event)), event, Groups(range(30), [0]))
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx(float(wilson(np.array([1.0]), np.array([float(rarer)]))[0][0]))
    assert low < 1


def test_one_kind_alone_has_no_interval() -> None:
    event = np.ones((3, 2), bool)
    found = pooled(placements(event.astype(float), event, everything(event)), event, Groups(range(3), [0]))
    assert np.isnan(found).all()


def test_rows_carry_both_intervals_around_their_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = ["".join(rng.choice(list("us"), 6)) for _ in range(24)]
    write_cell(tmp_path / "r", labels, scores={"similarity": informative(labels, noise=1.0)})
    report = report_of(tmp_path / "r")
    row = one(report, selector="similarity_argmin", layer=1)
    for name in ("within_prompt", "pooled"):
        value, low, high = (getattr(row, f"auroc_{name}{end}") for end in ("", "_ci_low", "_ci_high"))
        assert 0.5 < low < value < high < 1, name
    placebo = one(report, selector="similarity_argmin", layer=0)
    assert placebo.auroc_pooled == placebo.auroc_within_prompt == 0.5
    assert (placebo.auroc_pooled_ci_low or 0) < 0.5 < (placebo.auroc_pooled_ci_high or 0)
    assert one(report, selector="mean").auroc_pooled_ci_low is None
    other = one(report, selector="similarity_argmax", layer=1)
    assert other.auroc_pooled_ci_low == row.auroc_pooled_ci_low, "of the score, whatever is chosen by it"


def test_the_page_has_a_table_of_each_scores_aurocs_with_their_intervals(tmp_path: Path) -> None:
    labels = ["us", "su", "us", "ss", "us", "uu"]
    scores = {"similarity": informative(labels), "kl": -informative(labels)[:, :, 1]}
    write_cell(tmp_path / "r", labels, scores=scores)
    (table,) = auroc_tables(report_of(tmp_path / "r"))
    by_score = {row[1]: row for row in table.rows}
    assert set(by_score) == {"similarity", "kl", "refusal"}
    assert by_score["similarity"][:3] == ("attacks", "similarity", "1")
    assert by_score["similarity"][3].startswith("1.00 [0.")
    assert by_score["similarity"][4] == "4"
    assert by_score["kl"][2:4] == ("–", f"0.00 [0.00, {float(wilson(np.zeros(1), np.array([4.0]))[1][0]):.2f}]")
    write_cell(tmp_path / "without", labels)
    assert auroc_tables(report_of(tmp_path / "without")) == []
