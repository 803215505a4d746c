"""The frozen rule: answers below its limit, comes back from its file, and refuses what would break its promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_calibrate import inputs_of

from dalign.errors import ArtifactError, DataError
from dalign.select.abstain import Abstainer, Rule, Threshold, group_hashes, set_thresholds
from dalign.select.calibrate import Place, best_place, event_rates, places
from dalign.select.combine import all_features, fit_combination
from dalign.select.risk import fit_risk

GRID = [0.1, 0.2, 0.4]


def split(seed: int, prompts: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """Scores at two layers, events, and the names of groups, which tell their split."""
    rng = np.random.default_rng(seed)
    chance = np.repeat(rng.beta(0.4, 2.0, size=(prompts, 1)), 4, axis=1)
    event = rng.random(chance.shape) < chance
    layered = np.stack(
        [rng.normal(size=chance.shape), chance + 0.3 * event + 0.1 * rng.normal(size=chance.shape)], axis=-1
    )
    return {"similarity": layered}, event, [f"{seed}-{i}" for i in range(prompts)]


def rule_of(seed: int, chosen_on: list[str] | None = None) -> Rule:
    scores, event, groups = split(seed)
    inputs, every = inputs_of(**scores), np.ones_like(event)
    features = all_features(inputs)
    risk = fit_risk(features, inputs, every, event, every, l2=0.1)
    chooser = fit_combination(features, inputs, every, event, every, l2=0.1)
    return Rule(chooser, risk, group_hashes([*groups, *(chosen_on or [])]))


def frozen(seed: int = 1) -> Abstainer:
    scores, event, groups = split(seed)
    return set_thresholds(rule_of(0), inputs_of(**scores), event, groups, (0.01, 0.05, 0.2), delta=0.1, grid=GRID)


def test_what_it_answers_is_below_its_limit_and_the_chosen_sample() -> None:
    found = frozen()
    inputs = inputs_of(**split(2)[0])
    index, risk = found.rule.apply(inputs)
    of_all = {t.alpha: t for t in found.thresholds if t.promise == "of_all"}
    assert of_all[0.01].limit is None  # 60 groups are too few: 1 / 61 > 0.01
    assert (found.answer(inputs, of_all[0.01]) == -1).all()
    limit = of_all[0.05].limit
    assert limit is not None
    answer = found.answer(inputs, of_all[0.05])
    assert np.array_equal(answer, np.where(risk <= limit, index, -1))
    assert 0 < (answer >= 0).sum() <= 60
    assert (of_all[0.2].limit or 0) >= limit


def test_an_unfinished_prompt_is_never_answered() -> None:
    found = frozen()
    inputs = inputs_of(**split(2)[0])
    ended = inputs.finished_PN.copy()
    ended[3] = False
    answer = found.answer(replace(inputs, finished_PN=ended), Threshold("of_all", 0.5, 1.0))
    assert answer[3] == -1
    assert (np.delete(answer, 3) >= 0).all()


def test_the_file_brings_it_back_and_holds_no_group(tmp_path: Path) -> None:
    found = frozen()
    found.save(tmp_path / "a.json")
    assert Abstainer.load(tmp_path / "a.json") == found
    assert '"1-3"' not in (tmp_path / "a.json").read_text()
    fixed = replace(found, rule=replace(found.rule, chooser=Place("similarity", "argmin", 1)))
    fixed.save(tmp_path / "b.json")
    assert Abstainer.load(tmp_path / "b.json") == fixed


@pytest.mark.parametrize("damage", ["{}", "[]", "not json", '{"schema": 2}', '{"schema": 1, "rule": {}}'])
def test_another_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    (tmp_path / "a.json").write_text(damage)
    with pytest.raises(ArtifactError, match=r"a\.json"):
        Abstainer.load(tmp_path / "a.json")


def test_groups_of_the_fit_may_not_set_the_limit() -> None:
    scores, event, groups = split(1)
    shared = ["0-7", *groups[1:]]
    with pytest.raises(DataError, match="1 of 60 groups of the threshold split also took part in fitting"):
        set_thresholds(rule_of(0), inputs_of(**scores), event, shared, (0.05,), delta=0.1, grid=GRID)


def test_a_layer_chosen_on_the_threshold_split_is_refused() -> None:
    scores, event, groups = split(1)
    inputs, every = inputs_of(**scores), np.ones_like(event)
    found = places(inputs)
    best = found[best_place(found, event_rates(found, inputs, every, event, every, "chosen"))]
    rule = replace(rule_of(0, chosen_on=groups), chooser=best)
    with pytest.raises(DataError, match=r"60 of 60 groups.*choosing its layer.*split `fit`"):
        set_thresholds(rule, inputs, event, groups, (0.05,), delta=0.1, grid=GRID)


def test_a_file_whose_parts_overlap_is_refused(tmp_path: Path) -> None:
    found = frozen()
    found.save(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    data["set_on"] = [*data["set_on"], data["rule"]["fitted_on"][0]]
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="1 of 61 groups"):
        Abstainer.load(tmp_path / "a.json")
