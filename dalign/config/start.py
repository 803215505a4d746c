"""The start-up check: composes every job of a command line and tells all that is wrong, before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dalign.config.binding import bind_leniently
from dalign.config.commandline import CommandLine, hydra_at, read_command, read_options
from dalign.config.groups import drop_unknown_entries
from dalign.config.needs import Verb, unmet
from dalign.config.problems import Problem, raise_all
from dalign.config.sweep import in_sweep
from dalign.specs.run import RunSpec

_COMPOSING = (HydraException, OmegaConfBaseException, ValueError)


def check(verb: Verb, argv: Sequence[str]) -> list[RunSpec]:
    """The spec of every job that ``argv`` asks for, several under ``-m``. Nothing is imported that computes.

    Raises ``ConfigError`` with every problem of every job at once.
    """
    return prepare(verb, argv)[1]


def prepare(verb: Verb, argv: Sequence[str]) -> tuple[CommandLine, list[RunSpec]]:
    """What ``check`` returns, with the command line as ``hydra.main`` is to be given it.

    Where Hydra is only asked to show something there are no specs, and only what keeps it from composing is raised.
    """
    options = read_options(argv)
    with hydra_at(options) as loader:
        line = read_command(options, loader)
        problems = list(line.problems)
        specs = []
        for job in line.jobs:
            spec, found = _check_job(verb, job, line, loader)
            problems += found
            specs += [in_sweep(spec, job, line.swept)] if spec is not None else []
    raise_all(problems)
    return line, specs


def _check_job(
    verb: Verb, job: list[str], line: CommandLine, loader: ConfigLoader
) -> tuple[RunSpec | None, list[Problem]]:
    problems: list[Problem] = []
    if line.shows_only and not job:
        return None, problems
    name = line.options.config_name or verb
    cfg = _compose(name, drop_unknown_entries(job, loader, problems), problems)
    if cfg is None or line.shows_only:
        return None, problems
    # An override that was left out explains a fault at its own key, and only there: model=toi says nothing of model.id.
    left_out = {problem.key for problem in (*line.problems, *problems)}
    spec, found = bind_leniently(cfg)
    if spec is not None:
        stages = tuple(loader.get_group_options("stage"))
        found += [one for one in unmet(spec, verb, stages) if not one.follows_from(found)]
    return spec, problems + [one for one in found if one.key not in left_out]


def _compose(name: str, overrides: list[str], problems: list[Problem]) -> DictConfig | None:
    """The composed configuration; where that fails, without the overrides at fault, each of which is a problem."""
    try:
        return compose(name, overrides)
    except _COMPOSING:
        pass
    good: list[str] = []
    cfg: DictConfig | None = None
    for text in [None, *overrides]:
        attempt = good if text is None else [*good, text]
        try:
            cfg = compose(name, attempt)
            good = attempt
        except _COMPOSING as error:
            key = "" if text is None else text.lstrip("+~").partition("=")[0]
            head = f"{name}.yaml" if text is None else text.lstrip("+")
            problems.append(Problem(key, f"{head}: {_one_line(error)}"))
            if text is None:
                return None
    return cfg


def _one_line(error: Exception) -> str:
    """Hydra's message without its search path, its lines joined."""
    lines = [line.strip() for line in str(error).splitlines()]
    end = next((i for i, line in enumerate(lines) if line.startswith(("Config search path", "See http"))), len(lines))
    return " ".join(line for line in lines[:end] if line)
