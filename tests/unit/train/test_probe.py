"""The probe against scikit-learn, out of fold by group, with unscored rows and rows without states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from dalign.errors import ArtifactError, DataError
from dalign.specs.probe import Method
from dalign.specs.stage import ProbeStage, TrainerSpec
from dalign.train.features import Features
from dalign.train.probe import FittedProbe, Probe, train_probe
from dalign.train.rows import Rows

TRAINER = TrainerSpec(name="cpu", accelerator="cpu", threads=1)
STAGE = ProbeStage(folds=3)


def make_states(n: int = 180, layers: int = 3, width: int = 12) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """States far from standard scale, of which layer 0 knows nothing; labels; groups of four rows."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n, layers, width, generator=generator)
    labels = (states[:, 1, 0] + 0.7 * torch.randn(n, generator=generator) > 0.4).double()
    states[:, 2] += labels[:, None].float()
    states[:, 0, 3] = 2.0  # never varies
    scale = torch.logspace(-2, 2, width)
    return states * scale + 5 * scale, labels.numpy(), [f"g{i // 4}" for i in range(n)]


def rows_of(labels: np.ndarray, groups: list[str], benchmarks: list[str] | None = None) -> Rows:
    """Rows of which a group is a prompt."""
    n, empty = len(labels), ((1,),) * len(labels)
    kinds = tuple(benchmarks or ["b"] * n)
    return Rows(labels, tuple(groups), tuple(groups), kinds, empty, empty, ("",) * n, (True,) * n)


def fitted(
    states: torch.Tensor, labels: np.ndarray, groups: list[str], stage: ProbeStage = STAGE, method: Method = "logistic"
) -> FittedProbe:
    rows = rows_of(labels, groups)
    return train_probe(Features(states), rows, stage, method=method, seed=0, trainer=TRAINER)


def reference(states_XD: np.ndarray, labels: np.ndarray, train: np.ndarray, l2: float) -> np.ndarray:
    """P(unsafe) of every row by scikit-learn, fitted on the rows of ``train``, standardised by them alone."""
    mean, std = states_XD[train].mean(0), states_XD[train].std(0)
    scaled = (states_XD - mean) / np.where(std > 1e-9, std, 1)
    model = LogisticRegression(C=1 / (l2 * train.sum()), tol=1e-10, max_iter=10_000).fit(scaled[train], labels[train])
    return np.asarray(model.predict_proba(scaled)[:, 1])


@pytest.mark.parametrize("l2", [1e-2, 1e-3])
def test_probabilities_equal_scikit_learns(l2: float) -> None:
    states, labels, groups = make_states()
    found = fitted(states, labels, groups, ProbeStage(folds=3, l2=l2, steps=400))
    whole = found.probe.unsafe(states).numpy()
    for layer in range(3):
        rows = states[:, layer].double().numpy()
        assert np.abs(whole[:, layer] - reference(rows, labels, np.ones(180, bool), l2)).max() < 1e-3
        for fold in range(3):
            held_out = found.fold_X == fold
            expected = reference(rows, labels, ~held_out, l2)
            assert np.abs(found.oof_XL[held_out, layer] - expected[held_out]).max() < 1e-3
    assert found.summary()["unconverged_layers"] == []


def test_a_rows_score_does_not_depend_on_its_groups_labels() -> None:
    states, labels, groups = make_states()
    flipped = labels.copy()
    flipped[[i for i, g in enumerate(groups) if g == "g7"]] = (
        1 - flipped[[i for i, g in enumerate(groups) if g == "g7"]]
    )
    one, two = fitted(states, labels, groups), fitted(states, flipped, groups)
    rows = np.array([g == "g7" for g in groups])
    assert np.abs(one.oof_XL[rows] - two.oof_XL[rows]).max() < 1e-6
    assert np.abs(one.oof_XL[~rows] - two.oof_XL[~rows]).max() > 1e-3


def test_unscored_rows_are_scored_but_not_learnt_from() -> None:
    states, labels, groups = make_states()
    hidden = labels.copy()
    hidden[::5] = np.nan
    found = fitted(states, hidden, groups)
    assert not np.isnan(found.oof_XL).any()
    for fold in range(3):
        rows = found.fold_X == fold
        expected = reference(states[:, 1].double().numpy(), labels, ~rows & ~np.isnan(hidden), 1e-2)
        assert np.abs(found.oof_XL[rows, 1] - expected[rows]).max() < 1e-3
    assert found.summary()["without_label"] == 36


def test_rows_without_states_have_no_score_and_touch_no_other() -> None:
    states, labels, groups = make_states()
    holed = states.clone()
    holed[[3, 50]] = float("nan")
    masked = labels.copy()
    masked[[3, 50]] = np.nan
    found, same = fitted(holed, labels, groups), fitted(states, masked, groups)
    assert np.isnan(found.oof_XL[[3, 50]]).all()
    rest = np.setdiff1d(np.arange(180), [3, 50])
    assert np.abs(found.oof_XL[rest] - same.oof_XL[rest]).max() < 1e-9
    assert found.summary()["without_states"] == 2
    assert found.probe.unsafe(holed)[3].isnan().all()


def test_scores_do_not_depend_on_the_order_of_rows() -> None:
    states, labels, groups = make_states()
    order = np.random.default_rng(0).permutation(180)
    one = fitted(states, labels, groups)
    two = fitted(states[torch.from_numpy(order)], labels[order], [groups[i] for i in order])
    assert np.abs(one.oof_XL[order] - two.oof_XL).max() < 1e-5


def test_the_same_input_gives_the_same_bits(tmp_path: Path) -> None:
    states, labels, groups = make_states()
    for name in ("one", "two"):
        fitted(states, labels, groups).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_summary_counts_and_ranks() -> None:
    states, labels, groups = make_states()
    summary = fitted(states, labels, groups).summary()
    assert (summary["samples"], summary["unsafe"] + summary["safe"]) == (180, 180)
    assert summary["unsafe"] == int(labels.sum())
    assert summary["fold_sizes"] == [60, 60, 60]
    blind, knows, told = summary["auroc_pooled"]
    assert 0.35 < blind < 0.65
    assert 0.75 < knows < told
    assert summary["auroc_within_group"][2] > 0.85
    both = sum(len({labels[i] for i in range(180) if groups[i] == g}) == 2 for g in set(groups))
    assert summary["groups_with_both"] == both


def test_one_label_only_is_an_error_that_names_the_counts() -> None:
    states, _, groups = make_states()
    with pytest.raises(DataError, match=r"outside fold 1 of stage.folds=3: 0 unsafe and 120 safe"):
        fitted(states, np.zeros(180), groups)
    alone = np.zeros(180)
    alone[:4] = 1  # all unsafe rows in one group: the fold that holds it out has none
    with pytest.raises(DataError, match=r"0 unsafe and 120 safe samples"):
        fitted(states, alone, groups)


def test_an_unconverged_fit_says_so() -> None:
    states, labels, groups = make_states()
    assert fitted(states, labels, groups, ProbeStage(folds=3, steps=2)).summary()["unconverged_layers"] == [0, 1, 2]


def test_a_saved_probe_comes_back_and_another_file_is_refused(tmp_path: Path) -> None:
    states, labels, groups = make_states()
    found = fitted(states, labels, groups)
    found.save(tmp_path / "probe.safetensors")
    again = Probe.load(tmp_path / "probe.safetensors")
    assert torch.equal(again.unsafe(states), found.probe.unsafe(states))
    (tmp_path / "other").write_bytes(b"nothing")
    for name in ("other", "absent"):
        with pytest.raises(ArtifactError, match=f"{name}: not a probe"):
            Probe.load(tmp_path / name)


def test_the_probe_room_needs_no_gradient_left_on() -> None:
    """A caller may hold gradients off; the fit must not then return its starting point."""
    states, labels, groups = make_states()
    with torch.no_grad():
        found: Any = fitted(states, labels, groups)
    assert found.summary()["unconverged_layers"] == []
