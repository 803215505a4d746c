"""One iteration of an attack: the attacker proposes, the target answers, the attack's judge gives its feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dalign.attack.attacker import Attacker
from dalign.attack.target import Served, serve
from dalign.attack.turns import Attempt, Stream, Turn, broken, feedback
from dalign.judge import Judge, JudgeItem
from dalign.policies import Policy
from dalign.records import Prompt
from dalign.specs.attack import PairSpec, Target
from dalign.specs.run import RunSpec


@dataclass(frozen=True)
class Players:
    """Who takes part beside the policy, each loaded when first asked for."""

    policy: Callable[[], Policy]
    attacker: Callable[[], Attacker]
    judge: Callable[[], Judge]


def iterate(
    spec: RunSpec, attack: PairSpec, target: Target, players: Players, goals: Sequence[Prompt], past: Sequence[Turn]
) -> list[Turn]:
    """The next turn of every stream of ``goals`` that is still open after ``past``, goal after goal."""
    streams = open_streams(goals, past, attack)
    if not streams:
        return []
    attempts = players.attacker().propose(streams)
    asked = [(s, a) for s, a in zip(streams, attempts, strict=True) if not a.error]
    served = iter(serve(spec, players.policy(), target, asked) if asked else [])
    turns = [
        as_turn(target, s, a, Served(0, None, a.error) if a.error else next(served))
        for s, a in zip(streams, attempts, strict=True)
    ]
    return with_feedback(turns, {goal.id: goal for goal in goals}, players.judge())


def open_streams(goals: Sequence[Prompt], past: Sequence[Turn], attack: PairSpec) -> list[Stream]:
    """The streams that go on, goal after goal: none of a goal that feedback has declared broken."""
    streams = []
    for goal in goals:
        own = [turn for turn in past if turn.prompt_id == goal.id]
        if not broken(own, attack.stop_at):
            rows = [tuple(turn for turn in own if turn.stream == i) for i in range(attack.streams)]
            streams += [Stream(goal, i, row) for i, row in enumerate(rows)]
    return streams


def as_turn(target: Target, stream: Stream, attempt: Attempt, served: Served) -> Turn:
    """The record of a turn, still without feedback."""
    shared: dict[str, Any] = {
        "prompt_id": stream.goal.id,
        "target": target,
        "stream": stream.number,
        "iteration": stream.iteration,
        "prompt": attempt.prompt,
        "improvement": attempt.improvement,
        "reply": attempt.reply,
        "n": served.n,
        "error": served.error,
    }
    sample = served.sample
    if sample is None:
        return Turn(**shared)
    names = ("prompt_ids", "response_ids", "reasoning", "answer", "closed", "finish_reason")
    return Turn(**shared, chosen=sample.index, **{name: getattr(sample, name) for name in names})


def with_feedback(turns: Sequence[Turn], goals: Mapping[str, Prompt], judge: Judge) -> list[Turn]:
    """The turns with the feedback of the attack's judge on each answer to its goal."""
    asked = [turn for turn in turns if not turn.error]
    found = judge.judge([item_of(turn, goals[turn.prompt_id]) for turn in asked], "answer")
    verdicts = {v.sample_id: v for v in found}
    return [
        replace(turn, score=feedback(v), p_unsafe=v.p_unsafe, reason=v.reason) if (v := verdicts.get(turn.id)) else turn
        for turn in turns
    ]


def item_of(turn: Turn, goal: Prompt) -> JudgeItem:
    """A turn as judges see it: the answer with the *goal*, whatever words the target was asked in."""
    return JudgeItem(turn.id, goal, turn.reasoning, turn.answer, turn.finish_reason, turn.closed)
