"""Turns a composed configuration into a ``RunSpec`` and tells everything that stands against it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from dalign.config.faults import Fault, faults_by_key
from dalign.config.problems import Problem, raise_all
from dalign.config.schema import members
from dalign.config.targets import take_targets
from dalign.specs.run import RunSpec

_STAND_IN = "unset"


def bind(cfg: DictConfig) -> RunSpec:
    """The spec of a composed configuration. Raises ``ConfigError`` with every problem; knows nothing of files."""
    spec, problems = bind_leniently(cfg)
    raise_all(problems)
    if spec is None:
        raise AssertionError("a configuration that does not validate has problems to tell")
    return spec


def bind_leniently(cfg: DictConfig) -> tuple[RunSpec | None, list[Problem]]:
    """The spec and its problems. With faults left out, so that the rest can be checked; None where that fails."""
    plain, problems = _plain(cfg)
    problems += take_targets(plain)
    spec: RunSpec | None = None
    for _ in range(8):  # leaving one fault out may uncover another below it
        try:
            spec = RunSpec.model_validate(plain)
            break
        except ValidationError as error:
            found = faults_by_key(error, plain, RunSpec)
            fresh = [fault.problem() for fault in found]
            inner = [one for one in fresh if not any(other.key.startswith(f"{one.key}.") for other in fresh)]
            problems += [one for one in inner if not one.follows_from(problems)]
            # The deepest first, and lists from their ends: no place moves before its fault is taken out.
            order = sorted(enumerate(found), key=lambda item: (len(item[1].path), item[0]), reverse=True)
            stuck = [fault for _, fault in order if not _leave_out(plain, fault)]
            if stuck:
                break
    return spec, problems


def _plain(cfg: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    problems = []
    for key, text in _texts(OmegaConf.to_container(cfg), ""):
        if fault := _interpolation_fault(cfg, key, text):
            problems.append(fault)
            OmegaConf.update(cfg, key, _STAND_IN)
    for key in sorted(OmegaConf.missing_keys(cfg)):
        problems.append(Problem(key, f"{key} is not set (???): give {key}=VALUE"))
        OmegaConf.update(cfg, key, _STAND_IN)
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)), problems


def _texts(node: Any, key: str) -> Iterable[tuple[str, str]]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "${" in node:
        yield key, node


def _interpolation_fault(cfg: DictConfig, key: str, text: str) -> Problem | None:
    if "oc.env" in text and not key.startswith("paths."):
        return Problem(
            key, f"{key}={text}: would write the variable's value into saved configurations; only paths.* may"
        )
    try:
        OmegaConf.select(cfg, key)
    except OmegaConfBaseException as error:
        return Problem(key, f"{key}={text}: cannot be resolved ({str(error).partition(chr(10))[0]})")
    return None


def _leave_out(plain: dict[str, Any], fault: Fault) -> bool:
    """Takes a faulty value out, in place, so that the rest can be validated; false where nothing could stand in."""
    node: Any = plain
    for part in fault.path[:-1]:
        node = node[part]
    last = fault.path[-1]
    if isinstance(node, list):
        node.pop(cast(int, last))
    elif fault.required:
        if not any(str in members(annotation) for annotation in fault.annotations):
            return False
        node[last] = _STAND_IN
    else:
        node.pop(last, None)
    return True
