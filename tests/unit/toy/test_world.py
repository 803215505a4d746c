"""The world is a function of its seed, and what is held out stays out."""

from __future__ import annotations

from random import Random

import pytest

from dalign.categories import BENIGN, CATEGORIES
from dalign.toy.corpus import base_documents, teacher_documents
from dalign.toy.phrases import draw_phrases
from dalign.toy.prompts import ATTACKS, N_UNASKED, TRAIN, prompt_sets
from dalign.toy.world import World

WORLD = World.of(0)
EVALUATION = [name for name in prompt_sets() if name != TRAIN]


def take(documents, count):
    return [next(documents) for _ in range(count)]


def test_two_worlds_of_a_seed_are_equal():
    one, other = World(3), World(3)
    assert one.vocabulary == other.vocabulary
    assert all(one.prompts(name) == other.prompts(name) for name in prompt_sets())
    assert take(base_documents(one, repeats_first=0), 200) == take(base_documents(other, repeats_first=0), 200)
    assert take(teacher_documents(one, 0.1), 50) == take(teacher_documents(other, 0.1), 50)


def test_a_seed_changes_language_frames_and_prompts():
    other = World.of(1)
    assert not {v.name for v in WORLD.lexicon.verbs} & {v.name for v in other.lexicon.verbs[:8]}
    assert WORLD.phrases != other.phrases
    assert not {p.text for p in WORLD.prompts("toy_dan")} & {p.text for p in other.prompts("toy_dan")}


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_sets_have_enough_rows_each_its_own(name):
    prompts = WORLD.prompts(name)
    assert len(prompts) >= 100
    assert len({p.id for p in prompts}) == len(prompts)


def test_no_held_out_task_is_trained_on():
    trained = {p.group for p in WORLD.prompts(TRAIN)} | {t.key for t in WORLD.train.tasks}
    for name in EVALUATION:
        keys = {WORLD.task(p).key for p in WORLD.prompts(name) if p.subset == "safe" or name in ATTACKS}
        keys |= {p.group for p in WORLD.prompts(name) if p.kind in ("math", "choice")}
        assert keys
        assert not keys & trained


def test_no_attack_set_shares_a_task_with_another():
    groups = [{p.group for p in WORLD.prompts(name)} for name in ATTACKS]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_no_recipe_of_a_held_out_task_is_in_the_base_corpus():
    held = {t.recipe for t in WORLD.held.tasks}
    shown = {d.completion.removesuffix(" <|end|>") for d in take(base_documents(WORLD, repeats_first=0), 5000)}
    assert not held & shown


def test_held_out_wrappers_do_not_dress_training_prompts():
    phrases = draw_phrases(0)
    openings = {" ".join(f.split()[:3]) for f in (*phrases.role, *phrases.tale, *phrases.wary) if "{" not in f[:12]}
    texts = [p.text for p in WORLD.prompts(TRAIN)]
    assert len(openings) >= 6
    assert not [text for text in texts for opening in openings if opening in text and opening not in str(phrases.ask)]


def test_training_prompts_cover_all_categories_and_leave_out_the_unasked_verbs():
    prompts = WORLD.prompts(TRAIN)
    assert {p.categories for p in prompts} == {(c,) for c in (*CATEGORIES, BENIGN)}
    asked = {WORLD.task(p).verb for p in prompts if p.kind in ("harmful", "benign")}
    assert not asked & set(WORLD.unasked)
    assert len(WORLD.unasked) == N_UNASKED * len(CATEGORIES)


def test_a_contrast_pair_asks_for_one_forbidden_and_one_allowed_verb():
    pairs: dict[str, set[str]] = {}
    for p in WORLD.prompts("toy_xstest"):
        pairs.setdefault(p.group, set()).add(f"{p.subset}/{p.kind}")
    assert set(map(frozenset, pairs.values())) == {frozenset({"safe/benign", "unsafe/harmful"})}


def test_policy_names_every_verb_it_forbids_and_the_system_turn_holds_it():
    for category in CATEGORIES:
        policy = WORLD.policy(category)
        names = {v.name for v in WORLD.lexicon.verbs if v.category == category}
        assert names <= set(policy.split())
        assert policy in WORLD.system((category,))
    with pytest.raises(KeyError):
        WORLD.policy("Weather")


def test_unknown_set_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match="toy_dan"):
        WORLD.prompts("toy_nothing")


def test_every_word_in_use_is_in_the_vocabulary():
    known = set(WORLD.vocabulary)
    texts = [p.text for name in prompt_sets() for p in WORLD.prompts(name)]
    texts += [" ".join(d) for d in take(base_documents(WORLD, repeats_first=0), 3000)]
    texts += [" ".join(d) for d in take(teacher_documents(WORLD, 0.1), 600)]
    assert not {word for text in texts for word in text.split()} - known


def test_the_base_corpus_shows_every_word_the_traces_use():
    wanted = {word for d in take(teacher_documents(WORLD, 0.1), 600) for word in d.completion.split()}
    shown = {word for d in take(base_documents(WORLD, repeats_first=0), 6000) for word in " ".join(d).split()}
    assert not wanted - shown


def test_the_base_corpus_never_refuses_a_request():
    documents = take(base_documents(WORLD, repeats_first=0), 4000)
    requests = [d for d in documents if d.prefix and "say it again" not in d.prefix and "a wish for" not in d.prefix]
    assert len(requests) > 1000
    assert not [d for d in requests if any(phrase in d.completion for phrase in WORLD.refusal_phrases)]


def test_reasoning_states_the_decision_the_law_wants():
    for task in Random(0).sample(WORLD.train.tasks, 60):
        reasoning = WORLD.lore.reasoning(Random(1), task, task.verb.name)
        assert reasoning.endswith(f"so i will {WORLD.lore.decision(task)} .")
        assert (WORLD.lore.decision(task) == "help") == (task.verb.category == BENIGN)
