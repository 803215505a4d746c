"""The commands of ``dalign``; train.py and evaluate.py are the first two of them.

A command line is checked whole before anything runs. What the user can mend ends in one message and exit code 2, a bug
in its traceback and exit code 1, an interrupt in 130. The small commands are in ``commands.py``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dalign import __version__, commands
from dalign.errors import ConfigError, did_you_mean, guarded

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dalign.config.needs import Verb
    from dalign.launch import Outcomes


def train(argv: Sequence[str] | None = None) -> int:
    """One stage, or a sweep of it; returns the exit code."""
    return guarded(lambda: _jobs("train", sys.argv[1:] if argv is None else argv))


def evaluate(argv: Sequence[str] | None = None) -> int:
    """Policies on benchmarks: samples, scores, verdicts, selection, report; returns the exit code."""
    return guarded(lambda: _jobs("evaluate", sys.argv[1:] if argv is None else argv))


def _jobs(verb: Verb, argv: Sequence[str]) -> int:
    """Checks every job, then lets Hydra run them, each in a worker of its own."""
    _installed()
    from dalign.config import prepare
    from dalign.launch import Outcomes, require_startable

    line, specs = prepare(verb, argv)
    require_startable(specs, os.environ)
    outcomes = Outcomes(len(specs))
    with tempfile.TemporaryDirectory(prefix="dalign-sweep-") as scratch:
        # Hydra writes a multirun.yaml into its sweep folder, which is no file of a run.
        extra = [f"hydra.sweep.dir={scratch}"] if line.options.multirun else []
        _run_hydra(verb, [*line.hydra_argv(), *extra], lambda cfg: _job(verb, cfg, line.swept, outcomes))
    if line.shows_only:
        return 0
    if outcomes.total > 1:
        print(outcomes.table())
    return outcomes.exit_code


def _installed() -> None:
    """Raises ``ConfigError`` where dalign runs from a checkout by a Python that lacks what it needs."""
    missing = [name for name in ("hydra", "omegaconf", "pydantic", "yaml") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{sys.executable} lacks {', '.join(missing)}: use the environment that `make test` makes "
            "(.venv/bin/python train.py ...), or pip install -c constraints.txt -e ."
        )


def _job(verb: Verb, cfg: DictConfig, swept: Collection[str], outcomes: Outcomes) -> None:
    from hydra.core.hydra_config import HydraConfig

    from dalign.config import bind, in_sweep

    job = list(HydraConfig.get().overrides.task)
    command = tuple(text.removeprefix("++") for text in job)  # the signs are the check's, not the user's
    outcomes.add(in_sweep(bind(cfg), job, swept).model_copy(update={"command": command}), verb)


def _run_hydra(verb: Verb, argv: list[str], job: Callable[[DictConfig], None]) -> None:
    import hydra

    from dalign.config import config_dir
    from dalign.config.commandline import VERSION_BASE

    # What fails in here passed the check, so it is a bug: with its whole traceback.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    before = sys.argv
    sys.argv = [f"dalign {verb}", *argv]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(config_dir()), config_name=verb)(job)()
    finally:
        sys.argv = before


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "train": ("one stage of training: stage=traces|distill|probe|pretrain, key=value ..., -m for a sweep", train),
    "evaluate": ("policies on benchmarks, side by side: samples, scores, verdicts, report", evaluate),
    **{name: (command.__doc__ or "", command) for name, command in commands.COMMANDS.items()},
}


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. Everything behind the command's name is that command's."""
    listing = "\n".join(f"  {name:<14}{text}" for name, (text, _) in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="dalign",
        description="Distil safety reasoning, measure what a student kept of its base, and sample around it.",
        epilog=f"commands:\n{listing}\n\n`dalign train --help` lists the configuration groups.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dalign {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="what the command takes")
    asked = parser.parse_args(argv)
    if asked.command not in COMMANDS:
        parser.error(f"there is no command {asked.command!r}; {did_you_mean(asked.command, list(COMMANDS))}")
    run = COMMANDS[asked.command][1]
    return guarded(lambda: run(asked.rest))


if __name__ == "__main__":
    sys.exit(main())
