"""What is refused of an attack before anything is loaded."""

from __future__ import annotations

import pytest

from dalign.config import check
from dalign.errors import ConfigError

TOY = "attack=toy_pair"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ([TOY, "~judge@judges.harm_truth"], "attack.judge=toy_guard: is also what is reported"),
        (
            [TOY, "~judge@judges.harm_truth", "judges.harm.name=other", "judges.harm.threshold=0.9"],
            "attack.judge=toy_guard: is also what is reported",
        ),
        ([TOY, "attack.judge.threshold=0.9"], "attack.judge and judges.harm are both named toy_guard and differ"),
        ([TOY, "judge@attack.judge=toy_truth"], "attack.judge=toy_truth: knows what no attacker may know"),
        ([TOY, "judge@attack.judge=answers"], "attack.judge=answers: grades answers"),
        ([TOY, "judge@attack.judge=any", "attack.judge.of=[harm,harm_truth]"], "name a judge of its own"),
        ([TOY, "benchmark=[toy_gsm8k]"], "benchmark.toy_gsm8k: asks for no judge of harm"),
        (["attack=toy_selector", "policies=[base]"], "none has a base to be attributed to"),
        ([TOY, "attack.targets=[bon]", "policies=[base]"], "none has a base to be attributed to"),
        ([TOY, "protocol=released_code"], "attacks run under the corrected one alone"),
        (["attack=selector"], "judge@attack.judge"),
        ([TOY, "attack.stop_at=11"], "attack.stop_at=11"),
        ([TOY, "attack.targets=[]"], "attack.targets"),
        ([TOY, "attack.streems=2"], "did you mean 'streams'"),
        (["attack=pear"], "did you mean 'pair'"),
        ([TOY, "attack/attacker=server"], "attack.attacker.endpoint.url is not set"),
    ],
)
def test_a_fault_is_told_with_its_key(line: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check("evaluate", line)
    assert told in str(caught.value)
    assert len(caught.value.problems) <= 2


def test_a_stage_attacks_nobody() -> None:
    with pytest.raises(ConfigError, match=r"attack=toy_pair: a stage of training attacks nobody"):
        check("train", ["stage=traces", TOY])


def test_what_an_attacker_needs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DALIGN_NO_KEY", raising=False)
    far = ["attack/attacker=server", "attack.attacker.endpoint.url=http://a/v1", "attack.attacker.endpoint.model=m"]
    missing = ["attack.attacker.endpoint.key_env=DALIGN_NO_KEY", "attack.attacker.instruction=none.md"]
    with pytest.raises(ConfigError) as caught:
        check("evaluate", [TOY, *far, *missing])
    assert [text.partition(":")[0] for text in caught.value.problems] == [
        "attack.attacker.endpoint.key_env=DALIGN_NO_KEY",
        "attack.attacker.instruction=none.md",
    ]
    with pytest.raises(ConfigError, match=r"attack\.attacker\.model\.id=no/such/model: no such file or folder"):
        check("evaluate", [TOY, "attack/attacker=model", "attack.attacker.model.id=no/such/model"])


def test_a_second_reported_judge_makes_the_attack_a_fair_one() -> None:
    (spec,) = check("evaluate", [TOY, "~judge@judges.harm_truth", "+judge@judges.harm_second=toy_refusal"])
    assert spec.attack is not None
    assert spec.attack.judge.name == "toy_guard"
