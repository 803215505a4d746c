"""Reads a Hydra command line override by override, so that each fault is told, and says what a sweep's jobs are.

Plain ``key=value`` is handed on as ``++key=value``: any field of a spec can be set, also where its YAML leaves it to
the default, and an unknown one is found by the specs, which know what was meant.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hydra import version
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException

from dalign.config.groups import is_group
from dalign.config.places import config_dir
from dalign.config.problems import Problem
from dalign.config.schema import wants_text
from dalign.errors import ConfigError

VERSION_BASE = "1.3"
_FLAGS = ("help", "hydra_help", "resolve", "run", "multirun", "shell_completion")
_VALUES = ("cfg", "package", "config_name", "config_dir", "info")


@dataclass
class CommandLine:
    """What was typed: Hydra's own options, the overrides as Hydra will be given them, and each job's share of them."""

    options: argparse.Namespace
    overrides: list[str] = field(default_factory=list)
    jobs: list[list[str]] = field(default_factory=list)
    swept: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    @property
    def shows_only(self) -> bool:
        """Whether Hydra is asked to show something, such as ``--cfg``, so that no job will run."""
        asked = self.options
        return any((asked.cfg, asked.help, asked.hydra_help, asked.info, asked.shell_completion))

    def hydra_argv(self) -> list[str]:
        """The arguments for ``hydra.main``: its options first, then the overrides."""
        flags = [f"--{name.replace('_', '-')}" for name in _FLAGS if getattr(self.options, name)]
        values = [(name, getattr(self.options, name)) for name in _VALUES]
        given = [f"--{name.replace('_', '-')}={value}" for name, value in values if value is not None]
        return [*flags, *given, "--", *self.overrides]


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    """Hydra's options, with the raw overrides in ``overrides``. An unknown option ends in argparse's message, exit 2.

    Raises ``ConfigError`` for the two that dalign refuses.
    """
    options = get_args_parser().parse_intermixed_args(list(argv))
    if options.experimental_rerun:
        raise ConfigError("--experimental-rerun unpickles a file, which executes it; give the overrides again instead")
    if options.config_path:
        raise ConfigError(f"--config-path={options.config_path} would replace all groups; add yours by --config-dir")
    if options.config_dir and not os.path.isdir(options.config_dir):
        raise ConfigError(f"--config-dir={options.config_dir}: no such folder")
    return options


@contextmanager
def hydra_at(options: argparse.Namespace) -> Iterator[ConfigLoader]:
    """Hydra's compose API on the search path that ``hydra.main`` will have, ``--config-dir`` included."""
    version.setbase(VERSION_BASE)
    path = create_config_search_path(str(config_dir()))
    if options.config_dir:
        folder = f"file://{os.path.abspath(options.config_dir)}"
        path.prepend(provider="command-line", path=folder, anchor=SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2(task_name="dalign", config_search_path=path)
    try:
        yield hydra.config_loader
    finally:
        GlobalHydra.instance().clear()


def read_command(options: argparse.Namespace, loader: ConfigLoader) -> CommandLine:
    """The command line, with faults collected in ``problems``; an override at fault is left out of the jobs."""
    line = CommandLine(options)
    parser = OverridesParser.create(config_loader=loader)
    hydras = [text for text in options.overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    for text in options.overrides:
        override = _parse(parser, text, line.problems)
        if override is None:
            continue
        if text not in hydras and not override.is_hydra_override() and not is_group(override, loader, hydras):
            text = _as_forced(override, text)
            override = parser.parse_override(text)
        if override.is_sweep_override() and not options.multirun:
            line.problems.append(_not_a_sweep(override, text))
            continue
        line.overrides.append(text if override.is_sweep_override() else _normal(override))
    _split_jobs(line, parser)
    return line


def _parse(parser: OverridesParser, text: str, problems: list[Problem]) -> Override | None:
    """The override; where only quotes are missing (``run=a/lr=1``), the quoted one; else None and a problem."""
    key, found, value = text.partition("=")
    tries = [text, f"{key}='{value}'"] if found and not set(value) & set("'\"[]{}()$\\") else [text]
    reason = ""
    for attempt in tries:
        try:
            override = parser.parse_override(attempt)
        except HydraException as error:
            reason = reason or str(error).partition("\n")[0]
            continue
        if override.key_or_group:
            return override
        reason = "the key is missing"
    if not text.strip():
        reason, text = "an empty word", repr(text)
    problems.append(Problem(key.lstrip("+~"), f"{text}: not readable as key=value ({reason}); quote what is special"))
    return None


def _as_forced(override: Override, text: str) -> str:
    """A plain ``key=value`` as ``++key=value``, and a number for a field of text as text."""
    if override.type is OverrideType.DEL:
        return text
    override.type = OverrideType.FORCE_ADD
    if override.is_sweep_override():
        return f"{override.get_key_element()}={override.get_value_string()}"
    if isinstance(override._value, bool | int | float) and wants_text(override.key_or_group):
        return f"{override.get_key_element()}='{override.get_value_string()}'"
    return _normal(override)


def _normal(override: Override) -> str:
    if override.type is OverrideType.DEL and override._value is None:
        return override.get_key_element()
    return f"{override.get_key_element()}={override.get_value_element_as_str()}"


def _not_a_sweep(override: Override, text: str) -> Problem:
    key = override.key_or_group
    told = text.lstrip("+")
    return Problem(key, f"{told}: several values are a sweep, which needs -m; a list is written {key}=[a,b]")


def _split_jobs(line: CommandLine, parser: OverridesParser) -> None:
    if not line.options.multirun:
        line.jobs = [line.overrides]
        return
    parsed = parser.parse_overrides(line.overrides)
    sweeps = [override for override in parsed if override.is_sweep_override()]
    continuous = [override for override in sweeps if not override.is_discrete_sweep()]
    for override in continuous:
        told = (override.input_line or override.key_or_group).lstrip("+")
        line.problems.append(Problem(override.key_or_group, f"{told}: an interval has no list of values to sweep over"))
    line.jobs = BasicSweeper.split_arguments([o for o in parsed if o not in continuous], max_batch_size=None)[0]
    line.swept = frozenset(override.get_key_element() for override in sweeps)
