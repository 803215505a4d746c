"""Probes against scikit-learn and enumerated likelihoods, out of fold by group, with unscored and missing rows."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from dalign.errors import ArtifactError, DataError
from dalign.report.metrics import pooled_auroc
from dalign.specs.probe import Method
from dalign.specs.stage import ProbeStage, TrainerSpec
from dalign.train.conditional import conditional_nll
from dalign.train.features import Features, baseline_features
from dalign.train.probe import FittedProbe, Probe, leave_benchmarks_out, train_probe
from dalign.train.rows import Rows

TRAINER = TrainerSpec(name="cpu", accelerator="cpu", threads=1)
STAGE = ProbeStage(folds=3)


def make_states(n: int = 180, layers: int = 3, width: int = 12) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """States far from standard scale, of which layer 0 knows nothing; labels; groups of four rows."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n, layers, width, generator=generator)
    labels = (states[:, 1, 0] + 0.7 * torch.randn(n, generator=generator) > 0.4).double()
    states[:, 2] += labels[:, None].float()
    states[:, 0, -1] = 2.0  # never varies
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


def test_class_means_equal_scikit_learn_on_the_projection() -> None:
    states, labels, groups = make_states()
    found = fitted(states, labels, groups, method="class_means")
    for layer in (1, 2):
        rows = states[:, layer].double().numpy()
        for fold in range(3):
            train = found.fold_X != fold
            scaled = (rows - rows[train].mean(0)) / rows[train].std(0)
            apart = scaled[train & (labels == 1)].mean(0) - scaled[train & (labels == 0)].mean(0)
            expected = reference(scaled @ apart[:, None], labels, train, 1e-2)
            assert np.abs(found.oof_XL[~train, layer] - expected[~train]).max() < 1e-3
    assert found.summary()["unconverged_layers"] == []
    whole = found.probe.unsafe(states).numpy()
    assert pooled_auroc(whole[None, :, 2], labels[None] == 1, np.ones((1, 180), bool)) > 0.9


def test_the_conditional_probe_is_the_minimum_of_the_enumerated_likelihood() -> None:
    """Every set of as many samples written out, its minimum found by scipy."""
    states, labels, groups = make_states(n=60, width=4)
    found = fitted(states, labels, groups, ProbeStage(folds=3, l2=0.05), method="conditional")
    rows = states[:, 1].double().numpy()
    scaled = (rows - rows.mean(0)) / rows.std(0)
    sets = []
    for name in dict.fromkeys(groups):
        own = [i for i, g in enumerate(groups) if g == name]
        unsafe = [i for i in own if labels[i] == 1]
        if 0 < len(unsafe) < len(own):
            sets.append((unsafe, [list(c) for c in combinations(own, len(unsafe))]))

    def loss(weights: np.ndarray) -> float:
        logits = scaled @ weights
        terms = [logsumexp([logits[c].sum() for c in every]) - logits[unsafe].sum() for unsafe, every in sets]
        return float(np.mean(terms) + 0.05 / 2 * (weights**2).sum())

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
    assert np.abs(found.probe.weights_LD[1].numpy() - expected).max() < 1e-3
    assert found.probe.unsafe(states)[:, 1].mean() == pytest.approx(labels.mean(), abs=1e-5)
    assert found.summary()["unconverged_layers"] == []


def test_the_conditional_probe_ignores_what_a_prompts_samples_share() -> None:
    states, labels, groups = make_states(width=4)
    within = np.random.default_rng(0).random(180) < 0.5
    prompt = np.array([int(g[1:]) for g in groups])
    states[:, 2] = torch.from_numpy(np.stack([within, prompt % 2, prompt, within * 0], 1)).float()
    labels = np.where(prompt % 2 == 1, within | (prompt % 3 == 0), within & (prompt % 3 > 0)).astype(float)
    weights = fitted(states, labels, groups, method="conditional").probe.weights_LD[2]
    assert weights[0] > 0.5
    assert weights[1:].abs().max() < 1e-6
    plain = fitted(states, labels, groups).probe.weights_LD[2]
    assert plain[1] > 0.1


def test_conditional_needs_a_prompt_with_both_labels() -> None:
    states, _, groups = make_states()
    labels = np.array([float(int(g[1:]) % 2) for g in groups])
    with pytest.raises(DataError, match="no prompt has both unsafe and safe samples"):
        fitted(states, labels, groups, method="conditional")


def test_a_benchmark_left_out_is_scored_by_the_others_and_by_none_of_its_groups() -> None:
    states, labels, groups = make_states()
    benchmarks = ["a" if i < 60 else "b" if i < 120 else "c" for i in range(180)]
    groups[:4] = [groups[100]] * 4  # a group of two benchmarks
    rows = rows_of(labels, groups, benchmarks)
    found = leave_benchmarks_out(Features(states), rows, STAGE, seed=0, trainer=TRAINER)
    for name in "abc":
        own = np.array(benchmarks) == name
        others = ~np.isin(groups, np.array(groups)[own])
        expected = reference(states[:, 2].double().numpy(), labels, others, 1e-2)
        assert np.abs(found[own, 2] - expected[own]).max() < 1e-3
    alone = leave_benchmarks_out(Features(states), rows_of(labels, groups), STAGE, seed=0, trainer=TRAINER)
    assert np.isnan(alone).all()


def test_features_subtract_share_rows_and_hide_what_is_missing() -> None:
    one, two = torch.tensor([[[3.0, 5.0]], [[7.0, 9.0]]]), torch.tensor([[[1.0, 1.0]], [[2.0, float("nan")]]])
    features = Features(one, two, torch.tensor([1, 0, 0]))
    assert features.missing.tolist() == [True, False, False]
    ((layer, values),) = list(features)
    assert (layer, values.dtype) == (0, torch.float64)
    assert values.tolist() == [[0.0, 0.0], [2.0, 4.0], [2.0, 4.0]]


def test_baselines_see_length_ending_and_words() -> None:
    texts = ("the Lamp, the oil", "a lamp", "")
    rows = Rows(
        np.array([1.0, 0.0, np.nan]), *((("x", "y", "z"),) * 3), *(((1,),) * 3, ((4, 9), (9,), ())), texts, (True,) * 3
    )
    ((_, length),) = list(baseline_features("length", rows))
    assert length[:, 0].tolist() == [2, 1, 0]
    assert length[0, 1] == pytest.approx(np.log(3))
    ((_, ending),) = list(baseline_features("ending", rows))
    assert ending[:, :2].tolist() == [[1, 1], [1, 1], [0, 1]]
    ((_, words),) = list(baseline_features("words", rows))
    assert words.tolist() == [[1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]  # lamp, a, oil, the


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_conditional_likelihood_is_a_softmax_over_all_sets(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 6))
    k = data.draw(st.integers(1, n - 1))
    spare = data.draw(st.integers(0, 2))
    logits = data.draw(st.lists(st.floats(-30, 30), min_size=n + spare, max_size=n + spare))
    unsafe = [i < k for i in range(n + spare)]
    exists = [i < n for i in range(n + spare)]
    sums = [sum(logits[i] for i in c) for c in combinations(range(n), k)]
    expected = logsumexp(sums) - sum(logits[:k])
    table = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    found = conditional_nll(table, torch.tensor([unsafe]), torch.tensor([exists]))
    assert found.item() == pytest.approx(expected, abs=1e-9)
    (gradient,) = torch.autograd.grad(found.sum(), table)
    assert gradient[0, n:].abs().sum() == 0
    assert gradient.sum().item() == pytest.approx(0, abs=1e-9)


def test_class_means_of_states_that_never_vary_say_the_rate_alone() -> None:
    states, labels, groups = make_states()
    states[:, 0] = torch.tensor(0.1)
    found = fitted(states, labels, groups, method="class_means")
    assert found.probe.weights_LD[0].abs().max() == 0
    assert found.probe.unsafe(states)[:, 0].mean() == pytest.approx(labels.mean(), abs=1e-4)


def test_features_of_one_layer_are_fitted_like_many() -> None:
    states, labels, groups = make_states()
    alone, among = fitted(states[:, 1:2], labels, groups), fitted(states, labels, groups)
    assert np.array_equal(alone.oof_XL[:, 0], among.oof_XL[:, 1])
