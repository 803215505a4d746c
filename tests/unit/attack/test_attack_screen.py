"""The tables of both attacks, from rows made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dalign.attack.screen import pair_tables, publish, selector_tables


def pair_row(target: str, iteration: int, value: float | None, **fields: Any) -> dict[str, Any]:
    change = 0.1 if target == "bon" else None
    given = {
        "policy": "distill",
        "benchmark": "b",
        "metric": "asr",
        "judge": "far",
        "is_attack_judge": False,
        "pick": "submitted",
        "target": target,
        "iteration": iteration,
        "value": value,
        "n_prompts": 50,
        "ci_low": 0.1,
        "ci_high": 0.5,
        "queries": 2.5 * iteration,
        "n_unscored": 1.0,
        "difference": change,
        "difference_ci_low": -0.1,
        "difference_ci_high": 0.3,
    }
    return given | fields


def test_a_line_a_target_and_a_column_an_iteration() -> None:
    rows = [pair_row(t, i, i / 10) for t in ("single", "bon") for i in (1, 2, 3)]
    rows += [pair_row("single", i, None, policy="base") for i in (1, 2)]
    (table,) = pair_tables(rows)
    assert table.head[3:7] == ("1", "2", "after 3", "best of N against one")
    assert table.rows == (
        ("distill", "b", "one sample", "10", "20", "30 [10, 50]", "–", "7.5", "1", "50"),
        ("distill", "b", "best of N", "10", "20", "30 [10, 50]", "+10 [−10, +30]", "7.5", "1", "50"),
        ("base", "b", "one sample", "–", "–", "–", "–", "5.0", "1", "50"),
    )


def test_the_attacks_own_judge_comes_last_and_is_marked() -> None:
    own = {"judge": "a_near_one", "is_attack_judge": True}
    rows = [pair_row("single", 1, 0.5, pick=p, **j) for p in ("any", "submitted") for j in (own, {})]
    titles = [table.title for table in pair_tables(rows)]
    assert ["own judge" in title for title in titles] == [False, False, True, True]
    assert ["upper bound" in title for title in titles] == [False, True, False, True]


def selector_row(selector: str, variant: str, value: float, **fields: Any) -> dict[str, Any]:
    given = {
        "policy": "distill",
        "benchmark": "b",
        "metric": "asr",
        "judge": "far",
        "is_attack_judge": False,
        "selector": selector,
        "layer": None,
        "headline": False,
        "variant": variant,
        "value": value,
        "ci_low": 0.0,
        "ci_high": 1.0,
        "difference": 0.25,
        "difference_ci_low": 0.0,
        "difference_ci_high": 0.5,
        "n_unscored": 4 * value,
        "n_prompts": 8,
    }
    return given | fields


def test_the_headline_comes_first_with_every_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [selector_row("random", v, x) for v, x in (("drawn", 0.25), ("both", 0.5))]
    head = {"layer": 3, "headline": True}
    rows += [selector_row("similarity_argmin", v, x, **head) for v, x in (("drawn", 0.0), ("both", 1.0))]
    (table,) = selector_tables(rows)
    assert table.rows[0][0] == "similarity_argmin, layer 3 (headline)"
    assert table.rows[1] == ("random", "25 [0, 100]", "50 [0, 100]", "+25 [+0, +50]", "1, 2", "8")
    publish(rows, tmp_path)
    assert "similarity_argmin, layer 3 (headline)" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "results.json").is_file()
    assert "random" in capsys.readouterr().out
