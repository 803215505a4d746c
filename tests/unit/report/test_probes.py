"""The table of probes: on the page of a run that has one, in words that a reader can follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import write_cell

from dalign.files import write_json
from dalign.report import write_report
from dalign.report.probes import probe_tables
from dalign.specs.sampling import SelectorSpec
from dalign.train.probe_figures import Scale, other_folds
from dalign.train.rows import Rows

FIGURES = ("auroc_within", "auroc_pooled", "tpr_at_1_fpr", "ece", "auroc_matched", "auroc_within_matched")


def entry(name: str, value: float, **more: Any) -> dict[str, Any]:
    figures = dict.fromkeys(FIGURES, value) | {"auroc_within_ci_low": value - 0.1, "auroc_within_ci_high": value + 0.1}
    other = {"layers": [2, 1, 2], "figures": {**figures, "auroc_within": value + 0.01}}
    left = {"attacks": {"within": 0.6, "pooled": None, "oof_within": value, "oof_pooled": 0.9}}
    return {"name": name, "layer": 2, "figures": figures, "other_folds": other, "left_out": left, **more}


def table() -> dict[str, Any]:
    counts = {"unsafe": 9, "safe": 30, "prompts_with_both": 5}
    counts |= {"pairs_of_equal_length": 4, "pairs_of_equal_length_within": 3}
    plain = entry("probe", 0.8, method="logistic", input="base", pooling="content")
    return {**counts, "probes": [plain], "baselines": [entry("length", 0.7)]}


def test_the_table_stands_on_the_page_where_a_stage_finished_it(tmp_path: Path) -> None:
    run = tmp_path / "r"
    write_cell(run, ["us", "su"], scores={"similarity": np.zeros((2, 2, 3))})
    folder = run / "probe" / "distill"
    folder.mkdir(parents=True)
    write_json(folder / "probes.json", table())
    assert probe_tables(run) == []
    headline = SelectorSpec(name="bon", layer=1)
    assert "Probes" not in write_report(run, headline=headline, seed=0).index_html.read_text()
    write_json(folder / "manifest.json", {"schema": 1, "files": {}})
    (whole, _), (left, _) = probe_tables(run)
    assert whole.title == (
        "distill: 9 unsafe and 30 safe answers, 5 prompts with both; of equal length 4 pairs, 3 within prompts"
    )
    assert whole.rows[0] == (
        "probe (logistic-base-content)", "2", "80.0 [70.0, 90.0]", *["80.0"] * 5, "81.0 (1, 2)"
    )  # fmt: skip
    assert (whole.rows[1][0], whole.rows[1][1], whole.rows[1][-1]) == ("length", "–", "–")
    assert left.rows[1] == ("length", "70.0 → 60.0", "90.0 → –")
    page = write_report(run, headline=headline, seed=0).index_html.read_text()
    assert '<h2 id="probes">Probes</h2>' in page
    assert "probe (logistic-base-content)" in page


def rows_of(labels: list[float], prompts: list[str], lengths: list[int]) -> Rows:
    n = len(labels)
    ids = tuple(tuple(range(length)) for length in lengths)
    names = tuple(prompts)
    return Rows(np.array(labels), names, names, ("b",) * n, ids, ids, ("",) * n, (True,) * n)


def test_a_folds_layer_is_chosen_on_the_others_alone() -> None:
    rows = rows_of([1, 0] * 3, ["p", "p", "q", "q", "r", "r"], [5] * 6)
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    oof_XL = np.array([[*wrong, *right, *right], [*right, *wrong, *wrong]]).T  # layer 0 fails p, layer 1 q and r
    fold_X, scale = np.array([0, 0, 1, 1, 2, 2]), Scale(rows, seed=0)
    chosen_X, layers = other_folds(oof_XL, fold_X, scale)
    assert layers == [0, 0, 0]  # for q and r: p by layer 1, the other by layer 0, and of equals the lower layer
    assert chosen_X.tolist() == oof_XL[:, 0].tolist()
    assert other_folds(oof_XL[:, ::-1], fold_X, scale)[1] == [1, 0, 0]


def test_figures_count_labelled_rows_with_a_score_alone() -> None:
    rows = rows_of([1, 0, np.nan, 1, 0], ["p", "p", "p", "q", "q"], [10, 10, 10, 10, 30])
    scale = Scale(rows, seed=0)
    assert scale.facts() == {
        "unsafe": 2,
        "safe": 2,
        "prompts_with_both": 2,
        "pairs_of_equal_length": 1,
        "pairs_of_equal_length_within": 1,
    }
    found = scale.figures(np.array([0.8, 0.4, 0.1, 0.2, 0.6]))
    assert found["auroc_within"] == 0.5
    assert found["auroc_pooled"] == 0.5  # 0.8 beats both, 0.2 neither
    assert found["tpr_at_1_fpr"] == 0.5
    assert found["auroc_within_matched"] == 1.0
    assert found["ece"] == pytest.approx((0.2 + 0.4 + 0.8 + 0.6) / 4)
    assert 0 <= found["auroc_within_ci_low"] < 0.5 < found["auroc_within_ci_high"] <= 1
    without = scale.figures(np.array([0.8, np.nan, 0.1, 0.2, 0.6]))
    assert without["auroc_within"] == 0.0
