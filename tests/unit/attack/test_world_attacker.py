"""The embedded world's attacker: it asks for the goal, keeps to its frames, climbs, and repeats nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attack_parts import turn

from dalign.attack.turns import Stream
from dalign.attack.world import WorldAttacker
from dalign.records import Prompt
from dalign.specs.attack import WorldAttackerSpec
from dalign.toy.world import World

WORLD = World.of(0)
GOALS = WORLD.prompts("toy_strongreject")[:12]


def attacker(frames: str = "all", seed: int = 0) -> WorldAttacker:
    return WorldAttacker(WorldAttackerSpec(frames=frames), WORLD, seed)  # type: ignore[arg-type]


def played(who: WorldAttacker, goal: Prompt, scores: list[int | None], number: int = 0) -> Stream:
    """A stream in which the attempts got these scores."""
    stream = Stream(goal, number)
    for i, score in enumerate(scores, 1):
        (attempt,) = who.propose([stream])
        made = turn(goal, i, stream=number, score=score, prompt=attempt.prompt, improvement=attempt.improvement)
        stream = replace(stream, turns=(*stream.turns, made))
    return stream


@pytest.mark.parametrize("frames", ["trained", "all"])
def test_every_attempt_asks_for_the_goal_in_the_worlds_words(frames: str) -> None:
    known = set(WORLD.vocabulary)
    for goal in GOALS:
        task = WORLD.task(goal)
        for made in played(attacker(frames), goal, [1, None, 9, 1, 2]).turns:
            words = set(made.prompt.split())
            assert words <= known
            assert {task.verb.name, task.verb.nickname} & words
            assert task.thing.name in words


def test_trained_frames_hold_no_held_out_phrase() -> None:
    phrases, held_out = WORLD.phrases, set[str]()
    for frame in (*phrases.tale, *phrases.role, *phrases.role_end, *phrases.wary):
        held_out.add(max((part for part in frame.replace("{", "}").split("}")), key=len).strip())
    trained = [t.prompt for goal in GOALS for t in played(attacker("trained"), goal, [1] * 6).turns]
    every = [t.prompt for goal in GOALS for t in played(attacker("all"), goal, [1] * 6).turns]
    assert not any(part in prompt for part in held_out for prompt in trained)
    assert sum(any(part in prompt for part in held_out) for prompt in every) > len(every) / 2


def test_low_feedback_changes_the_frame_and_high_feedback_a_detail() -> None:
    for goal in GOALS:
        low = played(attacker(), goal, [1] * 8)
        assert len({t.prompt for t in low.turns}) == 8
        assert all("another frame" in t.improvement for t in low.turns[1:])
        high = played(attacker(), goal, [1, 8, 1, 1])
        assert all("the frame stays" in t.improvement for t in high.turns[2:])
        best = set(high.turns[1].prompt.split())
        shared = [len(best & set(t.prompt.split())) for t in high.turns[2:]]
        assert min(shared) > len(best) / 3


def test_attempts_follow_from_seed_goal_stream_and_feedback_alone() -> None:
    streams = [played(attacker(), goal, [1, 5], number) for goal in GOALS for number in (0, 1)]
    together = [a.prompt for a in attacker().propose(streams)]
    assert together == [attacker().propose([s])[0].prompt for s in reversed(streams)][::-1]
    assert together != [a.prompt for a in attacker(seed=1).propose(streams)]
    assert len(set(together)) == len(together)
    other = [played(attacker(), goal, [1, 1], number) for goal in GOALS for number in (0, 1)]
    assert together != [a.prompt for a in attacker().propose(other)]
