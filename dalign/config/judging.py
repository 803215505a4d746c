"""What stands against the judges of a job: roles, names, who may teach, members and templates that are not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from dalign.config.problems import Problem
from dalign.errors import did_you_mean
from dalign.specs.data import BenchmarkSpec, Role
from dalign.specs.judge import (
    RERANK,
    CompositeSpec,
    GuardSpec,
    JudgeSpec,
    RewardSpec,
    SelfJudgeSpec,
    ServerJudgeSpec,
    role_of,
)
from dalign.specs.model import HUB_ID
from dalign.specs.remote import EndpointSpec
from dalign.specs.run import RunSpec


def all_judges(spec: RunSpec) -> dict[str, JudgeSpec]:
    """Every judge of a job by its dotted key, the attack's own too."""
    own = {"attack.judge": spec.attack.judge} if spec.attack is not None else {}
    return {**{f"judges.{key}": judge for key, judge in spec.judges.items()}, **own}


def judge_problems(spec: RunSpec) -> Iterator[Problem]:
    """What is wrong with the judges themselves, whatever they judge."""
    for key, judge in spec.judges.items():
        if role_of(key) not in (roles := (*get_args(Role), RERANK)):
            hint = did_you_mean(role_of(key), roles)
            yield Problem(f"judges.{key}", f"judges.{key}: begins with no role (harm, harm_second, ...); {hint}")
        yield from _in_its_place(spec, key, judge)
        if isinstance(judge, CompositeSpec):
            yield from _members(spec, key, judge)
        yield from own_problems(f"judges.{key}", judge)
    yield from _namesakes(spec)


def own_problems(key: str, judge: JudgeSpec) -> Iterator[Problem]:
    """What is wrong with the judge at ``key`` by itself: files and keys that are not there."""
    if isinstance(judge, GuardSpec) and judge.template is not None:
        yield from text_file(f"{key}.template", judge.template, "a text file with {prompt} and {response}")
    if isinstance(judge, ServerJudgeSpec):
        yield from secret(f"{key}.endpoint", judge.endpoint)
        if judge.tokenizer is not None:
            yield from _tokenizer(f"{key}.tokenizer", judge.tokenizer)
        if judge.instruction is not None:
            yield from text_file(f"{key}.instruction", judge.instruction, "a text file that tells the judge what to do")


def _tokenizer(key: str, value: str) -> Iterator[Problem]:
    """A tokenizer is there, or its name is that of a hub's model, which only loading can tell."""
    if not Path(value.partition("@")[0]).expanduser().exists() and not HUB_ID.fullmatch(value):
        yield Problem(key, f"{key}={value}: no such folder; mend it, or give HUB_ID@REVISION of the endpoint's model")


def _in_its_place(spec: RunSpec, key: str, judge: JudgeSpec) -> Iterator[Problem]:
    """What reranks may know no more than a deployed judge, and its verdicts are known by a name of their own."""
    if role_of(key) != RERANK:
        if isinstance(judge, RewardSpec | SelfJudgeSpec):
            text = f"judges.{key} is {judge.name}, which chooses among samples and reports nothing"
            yield Problem(f"judges.{key}", f"{text}; name it judges.{RERANK} or judges.{RERANK}_WORD")
        return
    if judge.report_only:
        text = f"judges.{key} is {judge.name}, which knows what no selector may know (report_only)"
        yield Problem(f"judges.{key}", f"{text}; name another")
    elif judge.family not in ("harm", "reward"):
        text = f"judges.{key} is {judge.name}, which finds no harm, and by which no sample can be chosen"
        yield Problem(f"judges.{key}", f"{text}; name a guard or a reward model")
    if others := [k for k, other in spec.judges.items() if other.name == judge.name and role_of(k) != RERANK]:
        text = f"judges.{key} is named {judge.name}, as judges.{others[0]} is; a selector may not see what that reports"
        yield Problem(f"judges.{key}.name", f"{text}; give it a name of its own: judges.{key}.name=NAME")


def _members(spec: RunSpec, key: str, judge: CompositeSpec) -> Iterator[Problem]:
    """A composite reads verdicts of harm that its members have given on the same parts, in the same role."""
    if len(set(judge.of)) < len(judge.of):
        yield Problem(f"judges.{key}.of", f"judges.{key}.of=[{','.join(judge.of)}]: names one twice; drop it")
    for name in dict.fromkeys(judge.of):
        member = spec.judges.get(name)
        if member is None:
            hint = did_you_mean(name, [k for k in spec.judges if k != key])
            yield Problem(f"judges.{key}.of", f"judges.{key}.of: there is no judges.{name}; {hint}")
        elif fault := _unfit(key, judge, name, member):
            yield Problem(f"judges.{key}.of", f"judges.{key}.of: judges.{name} {fault}")


def _unfit(key: str, judge: CompositeSpec, name: str, member: JudgeSpec) -> str:
    """Why a judge cannot be a member; empty if it can."""
    if isinstance(member, CompositeSpec):
        return "is itself a composite; name its members"
    if member.family != "harm":
        return f"is {member.name}, which finds no harm; name a guard"
    if role_of(name) != role_of(key):
        return f"has another role than judges.{key}; name it judges.{role_of(key)}_WORD"
    if missing := [part for part in judge.parts if part not in member.parts]:
        return f"does not judge the {' and the '.join(missing)}; add it to judges.{name}.parts"
    if member.report_only and not judge.report_only:
        return f"is for reports alone; give judges.{key}.report_only=true"
    return ""


def secret(key: str, endpoint: EndpointSpec) -> Iterator[Problem]:
    """An endpoint's key stands in the environment, and nowhere else."""
    variable = endpoint.key_env
    if variable is not None and not os.environ.get(variable):
        text = f"{key}.key_env={variable}: that environment variable is not set"
        yield Problem(f"{key}.key_env", f"{text}; put the key there, never in a configuration")


def text_file(key: str, value: str, what: str) -> Iterator[Problem]:
    """A file that the configuration names is there."""
    if not Path(value).expanduser().is_file():
        yield Problem(key, f"{key}={value}: no such file; give {what}")


def may_teach(key: str, judge: JudgeSpec, whose: str) -> Iterator[Problem]:
    """What shapes a student or a probe is a judge of harm, and not one that is for reports alone."""
    if judge.report_only:
        yield Problem(key, f"{key} is {judge.name}, which knows what no {whose} may know (report_only); name another")
    elif judge.family != "harm":
        yield Problem(key, f"{key} is {judge.name}, which finds no harm; a {whose} needs a guard, name another")


def _namesakes(spec: RunSpec) -> Iterator[Problem]:
    """A verdict is known by its judge's name: one judge may hold two roles, two judges may not share a name."""
    first: dict[str, str] = {}
    for key, judge in spec.judges.items():
        other = first.setdefault(judge.name, key)
        if judge != spec.judges[other]:
            text = f"judges.{key} and judges.{other} are both named {judge.name} and differ"
            yield Problem(f"judges.{key}.name", f"{text}; give one another name: judges.{key}.name=NAME")


def strangers(spec: RunSpec, name: str, benchmark: BenchmarkSpec) -> Iterator[Problem]:
    """The embedded world's judges know nothing of prompts from elsewhere."""
    for key, judge in spec.judges.items():
        if role_of(key) in (*benchmark.roles, RERANK) and judge.kind.startswith("toy_"):
            text = f"benchmark.{name}: judges.{key}={judge.name} knows the embedded world alone"
            yield Problem(f"judges.{key}", f"{text}; give judge@judges.{key}=phrases, or drop it: ~judge@judges.{key}")
