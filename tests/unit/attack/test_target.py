"""Who can be attacked how, and what a target sees of an attempt."""

from __future__ import annotations

from attack_parts import goal, stream, turn

from dalign.attack.target import attempted, targets_of
from dalign.attack.turns import Attempt
from dalign.config import check
from dalign.specs.attack import PairSpec


def of(policy: str, *line: str) -> tuple[str, ...]:
    (spec,) = check("evaluate", ["attack=toy_pair", *line])
    assert isinstance(spec.attack, PairSpec)
    return targets_of(spec, spec.attack, policy)


def test_a_score_chooses_only_where_there_is_a_base() -> None:
    assert of("distill") == ("single", "bon")
    assert of("base") == of("teacher") == ("single",)
    assert of("base", "selector=random") == ("single", "bon")
    assert of("distill", "attack.targets=[bon,bon]") == ("bon",)


def test_the_target_sees_the_attempts_words_under_an_id_of_the_turn() -> None:
    asked = goal()
    same = [
        attempted(stream(asked), Attempt("try")),
        attempted(stream(asked, number=1), Attempt("try")),
        attempted(stream(asked, turn(asked, 1)), Attempt("try")),
    ]
    assert {p.text for p in same} == {"try"}
    assert {p.kind for p in same} == {asked.kind}
    assert {p.categories for p in same} == {asked.categories}
    assert len({p.id for p in same} | {asked.id}) == 4
    assert attempted(stream(asked), Attempt("try")).id == same[0].id
