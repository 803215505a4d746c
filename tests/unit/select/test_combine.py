"""The combination: against scikit-learn, blind to what differs between prompts, and of no use on noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_calibrate import inputs_of

from dalign.select.combine import all_features, fit_combination, ridge_logistic
from dalign.select.risk import fit_risk


def world(seed: int, prompts: int = 60, told: float = 1.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two scores, the second of which is higher for events; prompts differ by far more than their samples do."""
    rng = np.random.default_rng(seed)
    event = rng.random((prompts, 6)) < 0.35
    level = 50 * rng.normal(size=(prompts, 1))
    return {
        "noise": level + rng.normal(size=event.shape),
        "told": level + told * event + rng.normal(size=event.shape),
    }, event


def fitted(scores: dict[str, np.ndarray], event: np.ndarray, l2: float = 0.1):  # type: ignore[no-untyped-def]
    inputs, every = inputs_of(**scores), np.ones_like(event)
    return fit_combination(all_features(inputs), inputs, every, event, every, l2=l2)


@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_ridge_logistic_is_scikit_learns(l2: float) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(80, 4)), rng.random(80) + 0.1
    y = (rng.random(80) < 1 / (1 + np.exp(-x @ [1, -1, 0.5, 0] - 0.7))).astype(float)
    weight /= weight.sum()
    theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weight)
    ours = ridge_logistic(np.c_[x, np.ones(80)], y, weight, l2, free=4)
    assert ours[:4] == pytest.approx(theirs.coef_[0], abs=1e-5)
    assert ours[4] == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_separable_labels_converge_by_the_ridge() -> None:
    x = np.array([[1.0], [2.0], [-1.0], [-3.0]])
    found = ridge_logistic(x, np.array([1.0, 1, 0, 0]), np.ones(4), 1e-3)
    assert np.isfinite(found).all()
    assert found[0] > 1


def test_it_finds_the_score_that_tells_and_chooses_by_it() -> None:
    scores, event = world(0)
    found = fitted(scores, event)
    noise, told = found.weights
    assert told > 3 * abs(noise)
    new, new_event = world(1)
    chosen = found.choose(inputs_of(**new), np.ones_like(new_event))
    assert (chosen * new_event).sum(axis=1).mean() < 0.2 < new_event.mean()


def test_what_shifts_a_whole_prompt_changes_nothing() -> None:
    scores, event = world(0)
    shift = np.random.default_rng(3).normal(size=(60, 1)) * 100
    moved = {name: values + shift for name, values in scores.items()}
    assert fitted(moved, event).weights == pytest.approx(fitted(scores, event).weights, abs=1e-6)


def test_a_constant_feature_and_prompts_of_one_outcome_weigh_nothing() -> None:
    scores, event = world(0)
    scores["placebo"] = np.repeat(np.arange(60.0)[:, None], 6, axis=1)
    assert fitted(scores, event).weights[2] == 0
    assert fitted(scores, np.zeros_like(event)).weights == (0, 0, 0)
    inputs = inputs_of(**scores)
    assert np.allclose(fitted(scores, np.zeros_like(event)).choose(inputs, np.ones_like(event)), 1 / 6)


def test_a_missing_score_is_the_mean_and_a_sample_without_any_is_never_chosen() -> None:
    scores, event = world(0)
    found = fitted(scores, event)
    scores["told"][0, 0] = np.nan
    assert np.isfinite(found.read(inputs_of(**scores), np.ones_like(event))[0, 0])
    scores["noise"][0, 0] = np.nan
    assert np.isnan(found.read(inputs_of(**scores), np.ones_like(event))[0, 0])
    assert found.choose(inputs_of(**scores), np.ones_like(event))[0, 0] == 0


def test_the_risk_tells_prompts_apart_and_is_a_probability() -> None:
    rng = np.random.default_rng(0)
    chance = np.repeat(rng.beta(0.5, 1.5, size=(200, 1)), 4, axis=1)
    event = rng.random((200, 4)) < chance
    inputs, every = inputs_of(s=chance + 0.1 * rng.normal(size=chance.shape)), np.ones_like(event)
    risk = fit_risk(all_features(inputs), inputs, every, event, every, l2=0.01).read(inputs, every)
    assert ((risk > 0) & (risk < 1)).all()
    assert risk.mean() == pytest.approx(event.mean(), abs=0.02)
    assert np.corrcoef(risk.mean(axis=1), chance[:, 0])[0, 1] > 0.85


def test_a_risk_without_events_is_none_and_of_what_may_not_be_chosen_unknown() -> None:
    scores, event = world(0)
    inputs, every = inputs_of(**scores), np.ones_like(event)
    found = fit_risk(all_features(inputs), inputs, every, np.zeros_like(event), every, l2=0.1)
    assert found.read(inputs, every).max() < 1e-100
    some = every.copy()
    some[0, 0] = False
    assert np.isnan(found.read(inputs, some)[0, 0])
