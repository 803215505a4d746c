"""Runs that differ in their seeds, as one experiment: each counts once, intervals are over them, strangers stay out."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_run import informative, report_of, write_cell

from dalign import cli
from dalign.errors import ConfigError
from dalign.report.few import wilson
from dalign.report.gather import write_pooled
from dalign.report.over_runs import Told, mean_interval, paired_t, ratio_interval
from dalign.report.repeats import RepeatedRow, Repeats, repeats_of
from dalign.report.repeats_tables import repeats_tables
from dalign.report.tables import Report, sections


def one_run(folder: Path, labels: list[str], seed: int, **changed: Any) -> Report:
    """A run of that seed whose similarity tells unsafe answers from safe ones."""
    place = write_cell(folder, labels, scores={"similarity": informative(labels)})
    config = yaml.safe_load((place / "config.yaml").read_text())
    (place / "config.yaml").write_text(yaml.safe_dump({**config, "seed": seed, **changed}))
    return report_of(folder)


def row(found: Repeats, selector: str, layer: int | None = None) -> RepeatedRow:
    (one,) = [r for r in found.rows if (r.row.selector, r.row.layer) == (selector, layer) and r.row.subset == "all"]
    return one


def test_every_run_weighs_the_same_whatever_its_size(tmp_path: Path) -> None:
    """Half of the answers to 2 prompts are unsafe, none to 4: a quarter in the mean of runs, a sixth of prompts."""
    a = one_run(tmp_path / "a", ["us", "us"], 0)
    b = one_run(tmp_path / "b", ["ss"] * 4, 1)
    found = row(repeats_of([a, b]), "mean")
    assert found.row.value == 0.25
    assert (found.row.n_prompts, found.runs, found.values) == (6, 2, (0.5, 0.0))


def test_the_interval_is_students_t_over_runs() -> None:
    """Three runs at 0.2, 0.3 and 0.4: standard error 0.0577, t of two degrees 4.303."""
    told = [Told(v, v - 0.01, v + 0.01) for v in (0.2, 0.3, 0.4)]
    mean, low, high = mean_interval(told, (0, 1))
    assert mean == pytest.approx(0.3)
    assert (low, high) == (pytest.approx(0.3 - 0.24843, abs=1e-4), pytest.approx(0.3 + 0.24843, abs=1e-4))


def test_runs_that_agree_by_chance_have_the_interval_of_their_own_intervals() -> None:
    """Four runs of 0 with bounds [0, 0.1]: the root of four squares over four is 0.05, never a width of zero."""
    assert mean_interval([Told(0.0, 0.0, 0.1)] * 4, (0, 1)) == (0.0, 0.0, pytest.approx(0.05))
    assert mean_interval([Told(0.0, None, None)] * 4, (-1, 1)) == (0.0, None, None), "one and the same choice"
    assert mean_interval([Told(0.5, 0.4, 0.6)], (0, 1)) == (0.5, None, None), "a single run tells nothing of others"
    assert mean_interval([], (0, 1)) == (None, None, None)


def test_the_interval_holds_the_mean_of_all_runs_as_often_as_it_says() -> None:
    """Simulated: 10 runs of 64 prompts whose true rates vary; at least 93 % of 600 intervals hold their mean."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        rates = rng.beta(3, 17, 10)
        seen = rng.binomial(64, rates) / 64
        ends = [wilson(np.array([v]), np.array([64.0])) for v in seen]
        told = [Told(float(v), float(low[0]), float(high[0])) for v, (low, high) in zip(seen, ends, strict=True)]
        _, low, high = mean_interval(told, (0, 1))
        assert low is not None
        assert high is not None
        held += low <= 3 / 20 <= high
    assert 0.93 <= held / 600 <= 0.99


def test_the_paired_test_and_the_ratio_by_hand() -> None:
    """-0.1, -0.2 and -0.3: t = -3.464 of two degrees, p 0.0742; halves of equal baselines are a half, exactly."""
    gaps = np.array([-0.1, -0.2, -0.3])
    p_value, smallest = paired_t(gaps)
    assert p_value == pytest.approx(0.0742, abs=1e-4)
    assert smallest == pytest.approx((4.3027 + 1.0607) * 0.057735, abs=1e-4)
    ratio, low, high = ratio_interval(gaps, -2 * gaps)
    assert (ratio, low, high) == pytest.approx((-0.5, -0.5, -0.5))
    ratio, low, high = ratio_interval(gaps, np.full(3, 0.4))
    assert (ratio, high) == (pytest.approx(-0.5), pytest.approx(-0.5 + 4.3027 * 0.057735 / 0.4, abs=1e-4))
    assert low == -1


def test_a_paired_gain_in_every_run_is_claimed_and_a_mixed_one_is_not(tmp_path: Path) -> None:
    """The least similar answer is always the safe one; how many are unsafe differs from run to run."""
    words = [["us"] * (6 + i) + ["ss"] * (6 - i) for i in range(5)]
    found = repeats_of([one_run(tmp_path / f"r{i}", labels, i) for i, labels in enumerate(words)])
    chosen = row(found, "similarity_argmin", 1)
    assert (chosen.better, chosen.worse) == (5, 0)
    assert chosen.row.difference == pytest.approx(-np.mean([(6 + i) / 24 for i in range(5)]))
    assert chosen.row.difference_ci_high is not None
    assert chosen.row.difference_ci_high < 0
    assert (chosen.row.family, chosen.row.claim) == ("primary", "gain")
    against = row(found, "similarity_argmax", 1)
    assert (against.better, against.worse, against.row.claim) == (0, 5, "loss")
    below = [one.row for one in found.at_k]
    assert below
    assert all(one.p_value is None for one in below), "best of k below N claims nothing"
    placebo = row(found, "random")
    assert (placebo.row.difference, placebo.row.difference_ci_low, placebo.row.p_value) == (0.0, None, None)


def test_lengths_are_pooled_too(tmp_path: Path) -> None:
    """Gaps of -0.1 and -0.3 over 5 and 7 prompts; the longest chosen in 0.2 and 0.4, by chance in a quarter."""
    reports = []
    for i, (gap, share, prompts) in enumerate([(-0.1, 0.2, 5), (-0.3, 0.4, 7)]):
        report = one_run(tmp_path / f"r{i}", ["us", "uu"], i)
        told = {"equal_length_prompts": prompts, "equal_length_difference": gap, "equal_length_plain": gap}
        told |= {"chosen_longest": share, "chosen_longest_by_chance": 0.25}
        rows = [replace(r, **told) if r.selector == "longest" else r for r in report.rows]
        reports.append(replace(report, rows=tuple(rows)))
    found = row(repeats_of(reports), "longest").row
    assert (found.equal_length_prompts, found.equal_length_difference) == (12, pytest.approx(-0.2))
    assert found.equal_length_difference_ci_low is None, "the runs had no bounds"
    (table,) = [t for t in repeats_tables(repeats_of(reports), sections(reports[0])) if t.name == "lengths_1"]
    assert table.rows == (("distill", "attacks", "longest", "−20", "−20", "12", "30 [0, 100] / 25.0"),)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 0}, "one observation"),
        ({"sampler": {"n": 2, "temperature": 1.0}}, "differ in sampler"),
        ({"limit": 3}, "differ in limit"),
    ],
)
def test_runs_that_are_no_repetition_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    a = one_run(tmp_path / "a", ["us", "us"], 0)
    b = one_run(tmp_path / "b", ["us", "us"], **{"seed": 1, **changed})
    with pytest.raises(ConfigError, match=words):
        repeats_of([a, b])
    with pytest.raises(ConfigError, match="two runs"):
        repeats_of([a])
    with pytest.raises(ConfigError, match="headline"):
        repeats_of([a, replace(one_run(tmp_path / "c", ["us", "us"], 2), headline=replace(a.headline, layer=2))])


def test_a_policy_that_one_run_lacks_is_named(tmp_path: Path) -> None:
    a = one_run(tmp_path / "a", ["us", "us"], 0)
    write_cell(tmp_path / "b", ["us", "us"], policy="base")
    b = one_run(tmp_path / "b", ["us", "us"], 1)
    with pytest.raises(ConfigError, match="base on attacks"):
        repeats_of([a, b])


def test_tables_and_rows_are_written_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [one_run(tmp_path / "runs" / f"r{i}", ["us", "uu", "ss"], i) for i in range(3)]
    names = {table.name for table in write_pooled(reports, tmp_path / "out")}
    assert {"pooled", "seeds", "selectors_1", "layers_1"} <= names
    rows = list(csv.DictReader((tmp_path / "out" / "rows.csv").open()))
    (chosen,) = [
        r for r in rows if (r["selector"], r["layer"], r["subset"], r["k"]) == ("similarity_argmin", "1", "all", "2")
    ]
    assert (chosen["runs"], chosen["better"], chosen["value_r0"]) == ("3", "3", repr(1 / 3))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "r0", "r1", "r2", "--pool", "--out", "again", "selector.layer=1"]) == 0
    assert "Over 3 runs" in capsys.readouterr().out
    assert (tmp_path / "again" / "rows.csv").read_bytes() == (tmp_path / "out" / "rows.csv").read_bytes()
    assert "3 runs as one experiment" in (tmp_path / "again" / "index.html").read_text()
    assert cli.main(["report", "r0", "r1", "--pool"]) == 2
    assert "--out" in capsys.readouterr().err
