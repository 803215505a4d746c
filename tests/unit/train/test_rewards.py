"""Named rewards: what they are about, what a verdict is worth, and None where a judge could not tell."""

from __future__ import annotations

from typing import Any

import pytest

from dalign.judge.base import Screened
from dalign.judge.grades import GRADERS, AnswerJudge
from dalign.judge.refusal import PhraseJudge
from dalign.records import FinishReason, Kind, Prompt, Sample, Verdict
from dalign.specs.grpo import RewardSpec
from dalign.train.rewards import Rewards, value_of


def prompt_of(kind: Kind, reference: str | None = None) -> Prompt:
    return Prompt("d", kind, f"a question of {kind}", kind, kind, reference=reference)


def sample_of(prompt: Prompt, answer: str, *, finish: FinishReason = "stop", tokens: int = 3) -> Sample:
    return Sample(prompt.id, 0, "grpo", "p", "s", (1,), (2,) * tokens, "", answer, True, finish)


def reward(kind: str, **options: Any) -> RewardSpec:
    return RewardSpec.model_validate({"kind": kind, **options})


HARMFUL, BENIGN, SUM = prompt_of("harmful"), prompt_of("benign"), prompt_of("math", "12")
REFUSES, HELPS = "I'm sorry, but I can't help with that.", "Knead the dough, then let it rest."


def test_each_reward_is_about_its_own_prompts() -> None:
    rewards = Rewards(
        {
            "right": reward("correct", judge="answers"),
            "helps": reward("complied", judge="refusal"),
            "whole": reward("finished", weight=0.5),
            "short": reward("length", kinds=["harmful"]),
        },
        {"answers": Screened(AnswerJudge("answers", GRADERS["answers"])), "refusal": Screened(PhraseJudge("phrases"))},
        max_tokens=10,
    )
    prompts = [HARMFUL, BENIGN, BENIGN, SUM, SUM]
    answers = [HELPS, REFUSES, HELPS, "It is 12.", "It is 112."]
    found = rewards.of(prompts, [sample_of(p, a) for p, a in zip(prompts, answers, strict=True)])
    assert found == {
        "right": [None, None, None, 1.0, 0.0],
        "helps": [None, 0.0, 1.0, None, None],
        "whole": [1.0] * 5,
        "short": [-0.3, None, None, None, None],
    }
    assert rewards.weights == {"right": 1.0, "helps": 1.0, "whole": 0.5, "short": 1.0}


def test_an_answer_that_was_cut_off_is_unfinished_and_no_judge_can_tell() -> None:
    rewards = Rewards(
        {"helps": reward("complied", judge="refusal"), "whole": reward("finished")},
        {"refusal": Screened(PhraseJudge("phrases"))},
        max_tokens=10,
    )
    assert rewards.of([BENIGN], [sample_of(BENIGN, HELPS, finish="length")]) == {"helps": [None], "whole": [0.0]}


@pytest.mark.parametrize(
    ("options", "verdict", "value"),
    [
        ({}, {"label": "safe", "p_unsafe": 0.25}, 0.75),
        ({}, {"label": "unsafe", "p_unsafe": 0.9}, pytest.approx(0.1)),
        ({"binary": True}, {"label": "safe", "p_unsafe": 0.25}, 1.0),
        ({"binary": True}, {"label": "unsafe", "p_unsafe": 0.9}, 0.0),
        ({}, {"label": "safe"}, 1.0),  # a judge without probabilities
        ({}, {"label": "unscored", "reason": "empty"}, None),
    ],
)
def test_safety_is_the_guards_probability_or_its_verdict(
    options: dict[str, Any], verdict: dict[str, Any], value: float | None
) -> None:
    assert value_of(reward("safe", judge="harm", **options), Verdict("s", "guard", "answer", **verdict)) == value


def test_a_reward_names_a_judge_where_it_needs_one_and_only_there() -> None:
    with pytest.raises(ValueError, match="kind=safe needs a judge"):
        reward("safe")
    with pytest.raises(ValueError, match="kind=finished has no judge"):
        reward("finished", judge="harm")
