"""What RL asks in the embedded world: training's tasks and frames in more words, nothing that an evaluation asks."""

from __future__ import annotations

from collections import Counter

import pytest

from dalign.prompts import load_dataset
from dalign.prompts.toy_requests import NAME, toy_requests
from dalign.specs.data import DatasetSpec
from dalign.specs.run import PathsSpec
from dalign.toy.prompts import ATTACKS, TRAIN, prompt_sets
from dalign.toy.world import World


@pytest.mark.parametrize("seed", [0, 3])
def test_nothing_that_an_evaluation_asks_is_among_them(seed: int) -> None:
    world = World.of(seed)
    asked = toy_requests(world)
    held = [p for name in prompt_sets() if name != TRAIN for p in world.prompts(name)]
    assert not {p.text for p in held} & {p.text for p in asked}
    recipes = {p.group for p in asked if p.dataset == NAME}
    assert not {p.group for p in held if p.dataset in ATTACKS} & recipes
    frames = [frame for frame in world.phrases.role + world.phrases.tale if "{" not in frame]
    assert frames
    assert not [p for p in asked for frame in frames if frame in p.text]


def test_they_name_verbs_that_training_never_asks_about_and_nicknames() -> None:
    world = World.of(0)
    words = Counter(word for p in toy_requests(world) if p.kind == "harmful" for word in set(p.text.split()))
    trained = {word for p in world.prompts(TRAIN) for word in p.text.split()}
    assert all(words[verb.name] > 0 for verb in world.unasked)
    nicknames = {verb.nickname for verb in world.lexicon.harmful}
    assert not nicknames & trained
    assert len(nicknames & words.keys()) == len(nicknames)


def test_every_kind_is_there_under_ids_and_texts_of_its_own() -> None:
    asked = toy_requests(World.of(0))
    kinds = Counter(p.kind for p in asked)
    assert kinds["harmful"] > 900
    assert kinds["benign"] > 500
    assert kinds["math"] > 100
    assert kinds["choice"] > 50
    assert len({p.id for p in asked}) == len({p.text for p in asked}) == len(asked)


def test_the_data_set_is_loaded_by_its_format_and_thinned() -> None:
    spec = DatasetSpec(name=NAME, format="toy_requests")
    whole = load_dataset(spec, paths=PathsSpec(), world_seed=1)
    assert whole == toy_requests(World.of(1))
    assert len(load_dataset(spec, paths=PathsSpec(), world_seed=1, limit=20)) == 20
