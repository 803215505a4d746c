"""The commands of ``dalign``; train.py and evaluate.py are the first two of them.

A command line is checked whole before anything runs. What the user can mend ends in one message and exit code 2, a bug
in its traceback and exit code 1, an interrupt in 130. Each command imports what it needs when it is called.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dalign import __version__
from dalign.errors import ArtifactError, ConfigError, did_you_mean, guarded

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dalign.config.needs import Verb
    from dalign.launch import Outcomes
    from dalign.specs.run import RunSpec


def train(argv: Sequence[str] | None = None) -> int:
    """One stage, or a sweep of it; returns the exit code."""
    return guarded(lambda: _jobs("train", sys.argv[1:] if argv is None else argv))


def evaluate(argv: Sequence[str] | None = None) -> int:
    """Policies on benchmarks: samples, scores, verdicts, selection, report; returns the exit code."""
    return guarded(lambda: _jobs("evaluate", sys.argv[1:] if argv is None else argv))


def _jobs(verb: Verb, argv: Sequence[str]) -> int:
    """Checks every job, then lets Hydra run them, each in a worker of its own."""
    from dalign.config import prepare
    from dalign.launch import Outcomes

    line, specs = prepare(verb, argv)
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


def _one_spec(overrides: Sequence[str]) -> RunSpec:
    from dalign.config import check

    specs = check("evaluate", overrides)
    if len(specs) != 1:
        raise ConfigError("this command takes one configuration, not a sweep; drop -m")
    return specs[0]


def _about_one(command: str, thing: str, about: str, example: str, argv: Sequence[str]) -> tuple[str, RunSpec]:
    """The one word that a command is about, and the configuration that the overrides behind it make."""
    parser = argparse.ArgumentParser(prog=f"dalign {command}", description=COMMANDS[command][0])
    parser.add_argument(thing, help=about)
    parser.add_argument("overrides", nargs="*", help=f"key=value, as for evaluate: {example}")
    asked = parser.parse_args(argv)
    return getattr(asked, thing), _one_spec(asked.overrides)


def _score(argv: Sequence[str]) -> int:
    about = "JSONL: prompt (or prompt_ids) and responses, one prompt a line; think: false where none of them reasons"
    file, spec = _about_one("score", "file", about, "run=NAME selector=kl", argv)
    from dalign import scoring

    return scoring.main(spec, Path(file))


def _try(argv: Sequence[str]) -> int:
    prompt, spec = _about_one("try", "prompt", "one user turn, in quotes", "run=NAME sampler.n=4", argv)
    from dalign import trial

    return trial.main(spec, prompt)


def _contamination(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dalign contamination", description=COMMANDS["contamination"][0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="counts and row ids, as JSON")
    parser.add_argument("overrides", nargs="*", help="key=value, as for evaluate: dataset=star1 benchmark=[gsm8k]")
    asked = parser.parse_intermixed_args(argv)
    spec = _one_spec(asked.overrides)
    from dalign import contamination

    return contamination.main(spec, asked.json)


def _report(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dalign report", description=COMMANDS["report"][0])
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run's name below paths.runs (or run=NAME), or its folder"
    )
    parser.add_argument("overrides", nargs="*", help="key=value, as for evaluate: selector=kl paths.runs=DIR")
    asked = parser.parse_args(argv)
    words = [*asked.runs, *asked.overrides]
    overrides = [word for word in words if "=" in word and not Path(word).exists()]
    spec = _one_spec(overrides)
    named = [word for word in words if word not in overrides]
    named += [spec.run for word in overrides if word.lstrip("+").startswith("run=")]
    if not named:
        raise ConfigError("no run is named; give one's name below paths.runs, or its folder: dalign report NAME")
    folders = [_run_folder(name, spec) for name in dict.fromkeys(named)]
    from dalign.report import print_summary, write_report

    for folder in folders:
        paths = write_report(folder, headline=spec.selector, seed=spec.seed)
        print_summary(paths.report, paths.index_html)
    return 0


def _run_folder(name: str, spec: RunSpec) -> Path:
    below = Path(spec.paths.runs).expanduser() / name
    for folder in (below, Path(name).expanduser()):
        if (folder / "evaluate").is_dir():
            return folder
    raise ArtifactError(f"{name}: no run with an evaluate/ folder, neither {below} nor {name}; run evaluate first")


def _demo(argv: Sequence[str]) -> int:
    from dalign import demo

    return demo.main(argv)


def _doctor(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="dalign doctor", description=COMMANDS["doctor"][0])
    parser.add_argument("overrides", nargs="*", help="key=value, as for evaluate: paths.data=DIR paths.runs=DIR")
    asked = parser.parse_args(argv)
    from dalign import doctor

    return doctor.main(asked.overrides)


def _worker(argv: Sequence[str]) -> int:
    from dalign import worker

    return worker.main(list(argv))


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "train": ("one stage of training: stage=traces|distill|probe|pretrain, key=value ..., -m for a sweep", train),
    "evaluate": ("policies on benchmarks, side by side: samples, scores, verdicts, report", evaluate),
    "report": ("the report of finished evaluations again: results.json, index.html", _report),
    "score": ("attribution and selection over responses that somebody sampled elsewhere", _score),
    "try": ("N answers to one prompt, their scores, and the choice", _try),
    "contamination": ("how many rows of each benchmark share 8 words in a row with a training prompt", _contamination),
    "demo": ("the whole way on the embedded world, on a CPU, offline", _demo),
    "doctor": ("what this machine has, what is missing, and what to do", _doctor),
    "worker": ("one resolved job in this process; the others start it", _worker),
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
