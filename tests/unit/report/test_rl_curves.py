"""RL's curves: columns by step, gaps, lines that were cut off, few rows, no rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from dalign.report.rl_curves import draw_curves, read_metrics, series

ROWS = [
    {"step": 0, "validation_reward": 1.0, "validation_reward/safe": 0.5, "validation_kl": 0.0},
    {"step": 1, "reward": 1.5, "reward/safe": 0.9, "reward/correct": None, "entropy": 0.2, "length": 30.0},
    {"step": 2, "reward": None, "reward/safe": 0.8, "entropy": None, "length": 31.0},
    {"step": 4, "reward": 1.7, "reward/safe": 1.0, "entropy": 0.1, "length": 29.0, "clipped_low": 0.0, "kl": None},
]


def test_a_column_has_the_rows_that_know_it_and_a_gap_where_its_value_is_unknown() -> None:
    steps, values = series(ROWS, "reward")
    assert steps.tolist() == [1, 2, 4]
    np.testing.assert_array_equal(values, [1.5, np.nan, 1.7])
    assert series(ROWS, "validation_kl")[0].tolist() == [0]
    assert series(ROWS, "nothing")[0].size == 0


def test_of_two_rows_of_a_step_the_later_counts_and_steps_rise() -> None:
    steps, values = series([{"step": 2, "a": 1.0}, {"step": 1, "a": 2.0}, {"step": 2, "a": 3.0}], "a")
    assert (steps.tolist(), values.tolist()) == ([1, 2], [2, 3])


def test_lines_that_are_no_rows_are_counted_and_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [*map(json.dumps, ROWS), '{"reward": 1.0}', "[1]", '{"step": 5, "rew']
    path.write_text("\n".join(lines))
    rows, unreadable = read_metrics(path)
    assert (rows, unreadable) == (ROWS, 3)
    drawn = draw_curves(rows, unreadable)
    assert drawn is not None
    assert "3 lines of metrics.jsonl" in drawn.caption


def test_panels_are_those_that_have_a_value() -> None:
    drawn = draw_curves(ROWS)
    assert drawn is not None
    assert all(
        f">{title}<" in drawn.svg for title in ("reward", "KL to distill, nats a token", "clipped tokens, share")
    )
    assert ">dead groups, share<" not in drawn.svg
    assert ">safe<" in drawn.svg, "each reward is named"
    assert ">correct<" not in drawn.svg, "no row knows it"
    assert "http" not in drawn.svg


def test_one_row_is_drawn_and_none_is_nothing(tmp_path: Path) -> None:
    assert draw_curves(ROWS[1:2]) is not None
    assert draw_curves([]) is None
    assert draw_curves([{"step": 1, "reward": None}]) is None
    assert read_metrics(tmp_path / "metrics.jsonl") == ([], 0)


def test_the_same_rows_give_the_same_bytes() -> None:
    first, again = draw_curves(ROWS), draw_curves(ROWS)
    assert first is not None
    assert first == again
