"""What stands in the teacher's context: the right policies, in its own template, and not in the trace."""

from __future__ import annotations

import pytest

from dalign.categories import BENIGN, CATEGORIES
from dalign.errors import DataError
from dalign.records import Prompt
from dalign.specs.model import TOY_IDS
from dalign.specs.stage import TeacherSpec
from dalign.toy import World
from dalign.traces import teacher_messages
from dalign.traces.policies import instruction, policy
from dalign.traces.teacher import policies_of

REAL = TeacherSpec(name="real", id="somebody/reasoner")
TOY = TeacherSpec(name="toy", id="toy")


def prompt(*categories: str) -> Prompt:
    return Prompt("made_up", "3", "may i knit ?", "benign", "3", categories=categories)


@pytest.mark.parametrize("category", [*CATEGORIES, BENIGN])
def test_policy_names_its_category_and_its_three_parts(category: str) -> None:
    text = policy(category)
    assert text.splitlines()[0].casefold() == f"# {category}".casefold()
    parts = ["**Not allowed.**", "**Allowed.**", "**How to respond.**"]
    assert [text.index(p) for p in parts] == sorted(text.index(p) for p in parts)
    assert 150 <= len(text.split()) <= 250


def test_policies_differ() -> None:
    assert len({policy(c) for c in (*CATEGORIES, BENIGN)}) == 9


def test_paper_error_8_unknown_category_lists_the_known_ones() -> None:
    with pytest.raises(
        DataError, match=r"unknown category 'Violence'; did you mean 'Violence / Physical Harm'.*benign"
    ):
        policy("Violence")
    with pytest.raises(DataError, match=r"made_up row 3: unknown category 'weather'"):
        teacher_messages(REAL, prompt("weather"), world_seed=0)


def test_context_holds_the_policies_of_the_prompts_categories_alone() -> None:
    system, user = teacher_messages(REAL, prompt("Self-Harm", "Sexual / Adult"), world_seed=0)
    assert system["content"] == "\n\n".join([instruction(), policy("Self-Harm"), policy("Sexual / Adult")])
    assert (system["role"], user["role"], user["content"]) == ("system", "user", "may i knit ?")


def test_policies_can_stand_in_the_user_turn() -> None:
    spec = REAL.model_copy(update={"system": "user"})
    (only,) = teacher_messages(spec, prompt("benign"), world_seed=0)
    assert only["role"] == "user"
    assert only["content"].startswith(instruction())
    assert policy("benign") in only["content"]
    assert only["content"].endswith("may i knit ?")


def test_prompt_without_categories_gets_every_policy() -> None:
    assert policies_of(REAL, prompt()) == (*CATEGORIES, BENIGN)


@pytest.mark.parametrize("spec", [REAL, TOY])
def test_a_teacher_without_policies_is_asked_the_question_alone(spec: TeacherSpec) -> None:
    bare = spec.model_copy(update={"system": "none"})
    assert teacher_messages(bare, prompt("Self-Harm"), world_seed=0) == [{"role": "user", "content": "may i knit ?"}]
    assert policies_of(bare, prompt("Self-Harm")) == policies_of(bare, prompt()) == ()
    assert policies_of(spec, prompt("Self-Harm")) == ("Self-Harm",)


@pytest.mark.parametrize("model", TOY_IDS)
def test_the_worlds_models_get_the_kingdoms_law_of_its_own_seed(model: str) -> None:
    for seed in (0, 1):
        system, _ = teacher_messages(TOY.model_copy(update={"id": model}), prompt("Self-Harm"), world_seed=seed)
        assert system["content"] == World.of(seed).system(("Self-Harm",))
        assert World.of(seed).policy("Self-Harm") in system["content"]
