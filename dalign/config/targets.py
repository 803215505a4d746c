"""Checks each node's ``_target_`` against the class that the specs expect there, and takes it out; imports nothing.

``_target_`` is code execution where it is instantiated. Here it is only compared with the names of the specs that may
stand at that place, so no configuration can run anything.
"""

from __future__ import annotations

from typing import Any

from dalign.config.problems import Problem, shown
from dalign.config.schema import entries_in, members, specs_in, target_name
from dalign.errors import did_you_mean
from dalign.specs.base import Spec
from dalign.specs.run import RunSpec

TARGET = "_target_"
# Nodes that a Hydra group fills, by their place (``*`` a name), with what a user types to choose an entry.
GROUP_NODES = {
    "model": "model=NAME",
    "teacher": "teacher=NAME",
    "dataset": "dataset=NAME",
    "sampler": "sampler=NAME",
    "sampler.engine": "sampler/engine=NAME",
    "attribution": "attribution=NAME",
    "selector": "selector=NAME",
    "judges.*": "+judge@{key}=NAME",
    "benchmark.*": "benchmark=[NAME]",
    "protocol": "protocol=NAME",
    "stage": "stage=NAME",
    "attack": "attack=NAME",
    "attack.attacker": "attack/attacker=NAME",
    "attack.judge": "judge@attack.judge=NAME",
    "trainer": "trainer=NAME",
    "logger": "logger=NAME",
}


def take_targets(plain: dict[str, Any]) -> list[Problem]:
    """Removes every ``_target_`` from the composed configuration, in place, and tells those that do not fit."""
    problems: list[Problem] = []
    _walk(plain, (RunSpec,), "", "", problems)
    return problems


def choosing(key: str) -> str:
    """How to choose an entry of the group behind a node, as typed; empty where no group fills the place."""
    place = key if key in GROUP_NODES else f"{key.rpartition('.')[0]}.*"
    return GROUP_NODES.get(place, "").format(key=key)


def _walk(node: dict[str, Any], classes: tuple[type[Spec], ...], key: str, place: str, problems: list[Problem]) -> None:
    cls = _take_class(node, classes, key, place, problems)
    if cls is None:
        return
    for name, value in node.items():
        if name not in cls.model_fields:
            continue
        annotation = cls.model_fields[name].annotation
        here, there = _under(key, name), _under(place, name)
        if isinstance(value, dict) and (inner := specs_in(annotation)):
            _walk(value, inner, here, there, problems)
        elif isinstance(value, dict) and (inner := specs_in(entries_in(annotation))):
            for label, child in value.items():
                if isinstance(child, dict):
                    _walk(child, inner, _under(here, str(label)), _under(there, "*"), problems)
        elif isinstance(value, bool) and _wants_number(annotation):
            problems.append(Problem(here, f"{here}={shown(value)}: a number is expected"))


def _under(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _wants_number(annotation: Any) -> bool:
    kinds = set(members(annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def _take_class(
    node: dict[str, Any], classes: tuple[type[Spec], ...], key: str, place: str, problems: list[Problem]
) -> type[Spec] | None:
    """The class that the node's ``_target_`` names; None, with a problem, where it names none that fits."""
    named = {target_name(cls): cls for cls in classes}
    target = node.pop(TARGET, None)
    if target is None and place not in GROUP_NODES:
        return classes[0] if len(classes) == 1 else None
    if target not in named:
        tell = _ghost if target is None else _wrong_target
        problems.append(tell(key, target or sorted(node), sorted(named)))
        return None
    cls = named[target]
    for name in ("name", "kind") if len(classes) > 1 else ():  # a union's discriminator: the class has said it already
        default = cls.model_fields[name].default if name in cls.model_fields else None
        if isinstance(default, str):
            node.setdefault(name, default)
    return cls


def _ghost(key: str, holds: list[str], known: list[str]) -> Problem:
    what = f"holds only {', '.join(holds)}" if holds else "is empty"
    return Problem(
        key, f"{key} {what} and has no _target_: choose an entry by {choosing(key)}, or add _target_: {known[0]}"
    )


def _wrong_target(key: str, target: object, known: list[str]) -> Problem:
    text = str(target)
    if not text.startswith("dalign."):
        return Problem(
            key, f"{key}._target_={text}: only classes within dalign. may be named here ({', '.join(known)})"
        )
    return Problem(key, f"{key}._target_={text}: no spec of this place; {did_you_mean(text, known)}")
