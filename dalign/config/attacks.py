"""What stands against the attack of a job: goals to attack, an attacker that can be run, two judges that differ."""

from __future__ import annotations

from collections.abc import Iterator

from dalign.config.judging import own_problems, secret, text_file
from dalign.config.problems import Problem
from dalign.layout import ADAPTER_POLICIES
from dalign.specs.attack import (
    ChatAttackerSpec,
    ModelAttackerSpec,
    PairSpec,
    SelectorAttackSpec,
    ServerAttackerSpec,
    WorldAttackerSpec,
)
from dalign.specs.judge import CompositeSpec, SelfJudgeSpec, role_of
from dalign.specs.model import ModelSpec
from dalign.specs.remote import EndpointSpec
from dalign.specs.run import RunSpec

ATTACKER = "attack.attacker"


def attack_models(spec: RunSpec) -> dict[str, ModelSpec]:
    """The models that the attack itself loads, by key."""
    attacker = spec.attack.attacker if isinstance(spec.attack, PairSpec) else None
    return {f"{ATTACKER}.model": attacker.model} if isinstance(attacker, ModelAttackerSpec) else {}


def attack_endpoints(spec: RunSpec) -> dict[str, EndpointSpec]:
    """The endpoints that the attacker itself asks, by key."""
    attacker = spec.attack.attacker if isinstance(spec.attack, PairSpec) else None
    return {f"{ATTACKER}.endpoint": attacker.endpoint} if isinstance(attacker, ServerAttackerSpec) else {}


def attack_problems(spec: RunSpec, verb: str) -> Iterator[Problem]:
    """Every fault of the attack; none without one."""
    attack = spec.attack
    if attack is None:
        return
    if verb != "evaluate":
        yield Problem("attack", f"attack={attack.name}: a stage of training attacks nobody; run evaluate.py")
        return
    if spec.protocol.switches or spec.protocol.prefill:
        yield Problem("protocol", f"protocol={spec.protocol.name}: attacks run under the corrected one alone; drop it")
    yield from own_problems("attack.judge", attack.judge)
    yield from _judge(spec)
    yield from _goals(spec)
    for key, endpoint in attack_endpoints(spec).items():
        yield from secret(key, endpoint)
    from dalign.select import SELECTORS

    if isinstance(attack, PairSpec) and isinstance(attack.attacker, ChatAttackerSpec) and attack.attacker.instruction:
        what = "a text file with {goal}, {strategy} and {iterations} in their places"
        yield from text_file(f"{ATTACKER}.instruction", attack.attacker.instruction, what)
    needs_choice = isinstance(attack, SelectorAttackSpec) or (
        "single" not in attack.targets and spec.selector.score not in SELECTORS
    )
    if needs_choice and not set(spec.policies) & set(ADAPTER_POLICIES):
        text = f"policies=[{','.join(spec.policies)}]: none has a base to be attributed to, so nothing selects"
        yield Problem("policies", f"{text}; name one of {', '.join(ADAPTER_POLICIES)}")


def _judge(spec: RunSpec) -> Iterator[Problem]:
    """The attack's judge may be fooled, and knows no more than an attacker would; the reported one is another."""
    assert spec.attack is not None
    judge, key = spec.attack.judge, "attack.judge"
    if isinstance(judge, CompositeSpec):
        yield Problem(key, f"{key}={judge.name}: takes its verdicts from reported judges; name a judge of its own")
    elif judge.report_only:
        yield Problem(key, f"{key}={judge.name}: knows what no attacker may know (report_only); name another")
    elif judge.family not in ("harm", "refusal") or isinstance(judge, SelfJudgeSpec):
        how = "grades answers" if judge.family == "answers" else "is for reranking"
        yield Problem(key, f"{key}={judge.name}: {how}, and finds neither harm nor refusal; name another")
    for k, other in spec.judges.items():
        if other.name == judge.name and other != judge:
            text = f"{key} and judges.{k} are both named {judge.name} and differ"
            yield Problem(f"{key}.name", f"{text}; give one another name: {key}.name=NAME")
    reported = {k: j for k, j in spec.judges.items() if role_of(k) == "harm"}
    same = [k for k, j in reported.items() if j.same_source(judge)]
    if isinstance(spec.attack, PairSpec) and reported and len(same) == len(reported):
        text = f"{key}={judge.name}: is also what is reported (judges.{same[0]}), so an attack that fools it succeeds"
        yield Problem(key, f"{text}; give judge@{key}=NAME, or another reported judge: +judge@judges.harm_second=NAME")


def _goals(spec: RunSpec) -> Iterator[Problem]:
    assert spec.attack is not None
    world = isinstance(spec.attack, PairSpec) and isinstance(spec.attack.attacker, WorldAttackerSpec)
    strange = spec.attack.judge.kind.startswith("toy_")
    for name, benchmark in spec.benchmark.items():
        if "harm" not in benchmark.roles:
            text = f"benchmark.{name}: asks for no judge of harm, so there is nothing to attack"
            yield Problem(f"benchmark.{name}", f"{text}; leave it out of benchmark=[...]")
        elif benchmark.format != "toy" and world:
            text = f"benchmark.{name}: attack/attacker=world knows the embedded world alone"
            yield Problem(ATTACKER, f"{text}; give attack/attacker=server or model")
        elif benchmark.format != "toy" and strange:
            text = f"benchmark.{name}: attack.judge={spec.attack.judge.name} knows the embedded world alone"
            yield Problem("attack.judge", f"{text}; give judge@attack.judge=NAME")
