"""Verdicts that rerank are scores: they choose, they report nothing, and not on the labels of their own judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_run import one, report_of, write_cell

from dalign.errors import ArtifactError
from dalign.files import read_records, write_json, write_records
from dalign.records import Sample, Verdict
from dalign.report.load import load_cell, load_run
from dalign.report.pool import pool_of

GUARD = {"name": "guard", "kind": "toy_guard", "threshold": 0.5}
REWARD = {"name": "rm", "kind": "reward", "id": "rm"}
LABELS = ["us", "su", "uu"]
P_UNSAFE = [[0.9, 0.2], [0.1, 0.7], [0.8, 0.6]]


def rerank(
    run: Path,
    judges: dict[str, dict[str, Any]],
    said: dict[str, Any],
    *,
    attributed: bool = True,
    labels: Sequence[str] = LABELS,
) -> Path:
    """A cell in which ``judges`` (by key) have reranked; ``said`` maps a name to (P, N) of P(unsafe) or rewards."""
    shape = (len(labels), len(labels[0]), 3)
    folder = write_cell(run, labels, scores={"similarity": np.ones(shape)} if attributed else None)
    samples = read_records(folder / "samples.parquet", Sample)
    verdicts = []
    for name, values in said.items():
        for sample, value in zip(samples, np.ravel(values), strict=True):
            if name == "rm":
                verdicts.append(Verdict(sample.id, name, "answer", "graded", score=float(value)))
            elif np.isnan(value):
                verdicts.append(Verdict(sample.id, name, "answer", "unscored", reason="long"))
            else:
                label = "unsafe" if value >= 0.5 else "safe"
                verdicts.append(Verdict(sample.id, name, "answer", label, p_unsafe=float(value)))  # type: ignore[arg-type]
    write_records(folder / "reranked.parquet", verdicts)
    recorded = {spec["name"]: {"spec": spec, "version": "1"} for spec in judges.values()}
    write_json(
        folder / "judges.json", {"truth": {"spec": {"name": "truth", "kind": "toy_truth"}, "version": "1"}, **recorded}
    )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["judges"] = {**config["judges"], **judges}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_guard_and_a_reward_model_are_scores_of_their_own(tmp_path: Path) -> None:
    said = {"guard": P_UNSAFE, "rm": [[-1.5, 3.0], [0.0, 1.0], [2.0, 2.0]]}
    folder = rerank(tmp_path / "r", {"rerank": GUARD, "rerank_rm": REWARD}, said)
    cell = load_cell(folder, "distill")
    assert cell.scores["rerank:guard"].tolist() == P_UNSAFE
    assert cell.scores["reward:rm"].tolist() == said["rm"]
    assert cell.attributed == {"similarity"}
    report = report_of(tmp_path / "r")
    assert {row.judge for row in report.rows} == {"truth"}, "what reranks reports nothing"
    assert one(report, selector="rerank:guard_argmin").value == pytest.approx(1 / 3)
    assert one(report, selector="rerank:guard_argmax").value == 1
    assert one(report, selector="reward:rm_argmax").value == pytest.approx((0 + 1 + 1) / 3)
    until = one(report, selector="until_safe")
    assert (until.value, until.samples_drawn, until.k) == (pytest.approx(1 / 3), pytest.approx((2 + 1 + 2) / 3), 2)
    assert one(report, selector="mean").samples_drawn == 1
    assert not until.peeks


def test_the_headline_may_be_a_reranker_also_of_a_policy_without_a_base(tmp_path: Path) -> None:
    rerank(tmp_path / "r", {"rerank": GUARD}, {"guard": P_UNSAFE})
    report = report_of(tmp_path / "r", score="rerank:guard", layer="auto")
    assert report.headline.selector == "rerank:guard_argmin"
    rerank(tmp_path / "b", {"rerank": GUARD}, {"guard": P_UNSAFE}, attributed=False)
    report = report_of(tmp_path / "b", score="rerank:guard", layer="auto")
    assert one(report, selector="rerank:guard_argmin").layer is None
    assert "similarity_argmin" not in {row.selector for row in report.rows}


def test_a_benchmark_that_was_not_reranked_has_no_headline_and_stops_nothing(tmp_path: Path) -> None:
    rerank(tmp_path / "r", {"rerank": GUARD}, {"guard": P_UNSAFE})
    write_cell(tmp_path / "r", LABELS, benchmark="others", scores={"similarity": np.ones((3, 2, 3))})
    for score, name in (("rerank:guard", "rerank:guard_argmin"), ("until_safe", "until_safe")):
        report = report_of(tmp_path / "r", score=score, layer="auto")
        assert report.headline.selector == name
        assert {r.benchmark for r in report.rows if r.selector == name} == {"attacks"}


def test_choosing_by_the_judge_that_reports_is_marked(tmp_path: Path) -> None:
    same = {"name": "own", "kind": "toy_truth", "threshold": 0.2}
    rerank(tmp_path / "r", {"rerank": same}, {"own": P_UNSAFE})
    report = report_of(tmp_path / "r")
    for name in ("rerank:own_argmin", "rerank:own_argmax", "until_safe"):
        row = one(report, selector=name)
        assert (row.peeks, row.p_value, row.claim) == (True, None, ""), name
    below = [r for r in report.at_k if r.selector in ("rerank:own_argmin", "until_safe")]
    assert below, "best of k as well"
    assert all(r.peeks for r in below)
    assert not one(report, selector="refusal_vote").peeks


def test_resampling_pays_for_what_it_draws(tmp_path: Path) -> None:
    """The second of four will do: two are drawn; of its pairs with later ones one, of any other pair both."""
    said = np.tile([0.9, 0.1, 0.9, 0.9], (3, 1))
    rerank(tmp_path / "r", {"rerank": GUARD}, {"guard": said}, labels=["usss"] * 3)
    found = report_of(tmp_path / "r")
    row = one(found, selector="until_safe")
    assert (row.samples_drawn, row.tokens, row.flops) == (2, 13.0, None)
    (at_2,) = [r for r in found.at_k if r.k == 2 and r.selector == "until_safe"]
    assert at_2.samples_drawn == pytest.approx((1 * 2 + 2 * 1 + 3 * 2) / 6)


def test_refusals_by_the_phrases_of_the_judge_of_refusals_are_its_own_labels(tmp_path: Path) -> None:
    folder = write_cell(tmp_path / "r", ["rc", "cr"], judge="phrases", scores={"similarity": np.ones((2, 2, 3))},
                        said=["i cannot help", "wool", "wool", "i cannot help"])  # fmt: skip
    write_json(folder / "judges.json", {"phrases": {"spec": {"name": "phrases", "kind": "phrases"}, "version": "1"}})
    cell = load_cell(folder, "distill")
    assert (cell.told_by_judges, cell.reranked_by("truth")) == ({"refusal"}, set())
    report = report_of(tmp_path / "r")
    names = ("refusal_argmin", "refusal_argmax", "refusal_vote", "medoid", "similarity_argmin")
    assert [one(report, selector=n, layer=1 if "sim" in n else None).peeks for n in names] == [True] * 3 + [False] * 2


def test_nothing_is_learnt_from_scores_that_a_reporting_judge_would_give(tmp_path: Path) -> None:
    same = {"name": "own", "kind": "toy_truth", "threshold": 0.2}
    for name, judges in {"own": {"rerank": same}, "guard": {"rerank": GUARD}}.items():
        rerank(tmp_path / name, judges, {judges["rerank"]["name"]: P_UNSAFE})
    pools = [pool_of(load_run(tmp_path / name).cells, "truth") for name in ("own", "guard")]
    assert [set(pool.inputs.scores) for pool in pools if pool] == [
        {"similarity", "refusal"},
        {"similarity", "refusal", "rerank:guard"},
    ]
    rerank(tmp_path / "b", {"rerank": GUARD}, {"guard": P_UNSAFE}, attributed=False)
    assert pool_of(load_run(tmp_path / "b").cells, "truth") is None


def test_without_a_verdict_there_is_no_score_and_a_stray_one_is_refused(tmp_path: Path) -> None:
    folder = rerank(tmp_path / "r", {"rerank": GUARD}, {"guard": [[np.nan, 0.2], [0.1, np.nan], [np.nan, np.nan]]})
    assert np.isnan(load_cell(folder, "distill").scores["rerank:guard"]).tolist() == [
        [True, False],
        [False, True],
        [True, True],
    ]
    assert one(report_of(tmp_path / "r"), selector="until_safe").n_unscored == 1
    write_records(folder / "reranked.parquet", [Verdict("stray", "guard", "answer", "safe")])
    with pytest.raises(ArtifactError, match="not there"):
        load_run(tmp_path / "r")


def test_a_band_is_a_score_of_the_report(tmp_path: Path) -> None:
    scores = np.array([[[1, 0, 4.0], [1, 1, 1]], [[1, 0, 0], [1, 4, 0]], [[1, 1, 1], [1, 1, 1]]])
    write_cell(tmp_path / "r", LABELS, scores={"similarity": scores})
    report = report_of(tmp_path / "r", layer=(1, 2))
    assert (report.headline.selector, report.headline.layer) == ("similarity[1-2]_argmin", None)
    row = one(report, selector="similarity[1-2]_argmin")
    assert row.value == pytest.approx((0 + 0 + 1) / 3)
    assert row.auroc_within_prompt == 1
    assert {r.layer_chosen_on for r in report.rows if r.layer is not None and not r.peeks} <= {"scan", "rule"}
