"""Baselines that look at verdicts are marked and claim nothing; selectors never see one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_run import informative, one, report_of, write_cell

from dalign.select import SELECTORS


def test_paper_error_5_the_best_layer_on_the_test_labels_is_marked_and_is_no_method(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = ["".join(rng.choice(["u", "s"], 8)) for _ in range(40)]
    scores = np.concatenate([np.ones((40, 8, 1)), rng.random((40, 8, 6))], axis=2)
    write_cell(tmp_path / "r", labels, scores={"similarity": scores})
    report = report_of(tmp_path / "r")
    layers = [r for r in report.rows if r.selector == "similarity_argmin" and r.subset == "all"]
    best = one(report, selector="best_layer_similarity_argmin")
    assert best.value == min(r.value for r in layers if r.value is not None)
    assert best.layer == min(layers, key=lambda r: r.value or 0).layer
    assert (best.layer_chosen_on, best.peeks, best.p_value, best.claim) == ("test_labels", True, None, "")
    assert [r.layer_chosen_on for r in layers] == ["scan", "config", *["scan"] * 5]


def test_peeking_baselines_are_all_marked_and_selectors_are_not(tmp_path: Path) -> None:
    labels = ["us", "su", "ss"]
    write_cell(tmp_path / "r", labels, scores={"similarity": informative(labels), "kl": np.zeros((3, 2))})
    report = report_of(tmp_path / "r")
    peeking = {r.selector for r in report.rows if r.peeks}
    assert peeking == {
        "oracle_best",
        "oracle_worst",
        "majority",
        "majority_ties_count",
        "any_of_n",
        "best_layer_similarity_argmin",
        "best_layer_similarity_argmax",
    }
    assert {r.selector for r in report.rows if not r.peeks} == {
        "mean",
        *(name for name in SELECTORS if name != "until_safe"),  # nothing reranks here
        "refusal_argmin",
        "refusal_argmax",
        "similarity_argmin",
        "similarity_argmax",
        "kl_argmin",
        "kl_argmax",
    }
    assert all(r.p_value is None and not r.claim for r in report.rows if r.peeks)
    assert [
        one(report, selector=s).value
        for s in ("oracle_best", "oracle_worst", "any_of_n", "majority", "majority_ties_count")
    ] == [
        0,
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
        0,
        pytest.approx(2 / 3),
    ]


def test_choices_do_not_change_with_the_verdicts(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    scores = {"similarity": rng.random((6, 4, 3))}
    words = [["".join(rng.choice(["u", "s"], 4)) for _ in range(6)] for _ in range(2)]
    other = ["".join("u" if c == "s" else "s" for c in word) for word in words[0]]
    write_cell(tmp_path / "a", words[0], scores=scores)
    write_cell(tmp_path / "b", other, scores=scores)
    for row, flipped in zip(report_of(tmp_path / "a").rows, report_of(tmp_path / "b").rows, strict=True):
        assert row.selector == flipped.selector
        if not row.peeks:
            assert row.value == pytest.approx(1 - (flipped.value or 0))
