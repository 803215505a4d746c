"""The small commands of ``dalign``: what each takes on its command line, and what it is then called with.

Each imports what it needs when it is called, so that ``dalign --help`` needs nothing. Docstrings are the help.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from dalign.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from dalign.specs.run import RunSpec


def _report(argv: Sequence[str]) -> int:
    """the report of finished evaluations again, and many of them side by side"""
    parser = _parser("report")
    about = "a run's or a sweep's name or folder, or `paper` for its published rows; and key=value, as for evaluate: "
    about += "report.texts=false leaves prompts and answers out of the page"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=about)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write all of them there as one set of tables")
    about = "with --out: runs that differ in their seeds alone, as one experiment"
    parser.add_argument("--pool", action="store_true", help=about)
    asked = parser.parse_intermixed_args(argv)
    overrides = [word for word in asked.runs if "=" in word and not Path(word).exists()]
    spec = _one_spec(overrides)
    named = [word for word in asked.runs if word not in overrides]
    named += [spec.run for word in overrides if word.lstrip("+").startswith("run=")]
    if not named:
        raise ConfigError("no run is named; give one's name below paths.runs, or its folder: dalign report NAME")
    folders = [folder for name in dict.fromkeys(named) if name != "paper" for folder in _run_folders(name, spec)]
    if "paper" in named and asked.out is None:
        raise ConfigError("paper: its published rows make a set of tables; say where to write it: --out DIR")
    if asked.pool and ("paper" in named or asked.out is None):
        raise ConfigError("--pool: pooled runs make a set of tables of their own, without `paper`; give --out DIR")
    from dalign import reporting

    return reporting.main(spec, folders, with_paper="paper" in named, pooled=asked.pool, out=asked.out)


def _score(argv: Sequence[str]) -> int:
    """attribution and selection over responses that somebody sampled elsewhere"""
    parser = _parser("score")
    about = "JSONL: prompt (or prompt_ids) and responses, one prompt a line; think: false where none of them reasons"
    parser.add_argument("file", type=Path, help=about)
    asked, spec = _parsed(parser, argv, "run=NAME selector=kl")
    from dalign import scoring

    return scoring.main(spec, asked.file)


def _try(argv: Sequence[str]) -> int:
    """N answers to one prompt, their scores, and the choice"""
    parser = _parser("try")
    parser.add_argument("prompt", help="one user turn, in quotes")
    asked, spec = _parsed(parser, argv, "run=NAME sampler.n=4")
    from dalign import trial

    return trial.main(spec, asked.prompt)


def _import(argv: Sequence[str]) -> int:
    """the result files that the paper's authors publish, as a run that `dalign report` shows"""
    parser = _parser("import")
    about = "mulit_generation_<benchmark>.csv, its similarity file, or both; and key=value: run=NAME model= teacher="
    parser.add_argument("files", nargs="+", metavar="FILE", help=about)
    parser.add_argument("--policy", default="distill", help="whose responses they are: distill, grpo, base (distill)")
    parser.add_argument("--benchmark", metavar="NAME", help="the benchmark, if the file's name does not tell it")
    asked = parser.parse_intermixed_args(argv)
    overrides = [word for word in asked.files if "=" in word and not Path(word).exists()]
    files = [Path(word) for word in asked.files if word not in overrides]
    if not files or not any(word.lstrip("+").startswith("run=") for word in overrides):
        raise ConfigError("an import takes a file and a run: dalign import FILE run=NAME model=STUDENT teacher=TEACHER")
    from dalign import importing

    spec = _one_spec(overrides).model_copy(update={"command": tuple(overrides)})
    return importing.main(spec, files, asked.policy, asked.benchmark)


def _export(argv: Sequence[str]) -> int:
    """a student as one checkpoint: its adapter merged into its base"""
    from dalign.specs.model import Dtype

    parser = _parser("export")
    parser.add_argument("student", metavar="NAME|ADAPTER", help="a run's name or folder; or an adapter's, and model=")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write the checkpoint")
    parser.add_argument("--dtype", choices=get_args(Dtype), help="its precision (the model's own)")
    asked, spec = _parsed(parser, argv, "paths.runs=DIR model=hf model.id=BASE")
    from dalign import exporting

    spec = spec.model_copy(update={"command": tuple(asked.overrides)})
    return exporting.main(spec, asked.student, asked.out, asked.dtype)


def _contamination(argv: Sequence[str]) -> int:
    """how many rows of each benchmark share 8 words in a row with a training prompt"""
    parser = _parser("contamination")
    parser.add_argument("--json", type=Path, metavar="FILE", help="counts and row ids, as JSON")
    asked, spec = _parsed(parser, argv, "dataset=star1 benchmark=[gsm8k]")
    from dalign import contamination

    return contamination.main(spec, asked.json)


def _label(argv: Sequence[str]) -> int:
    """a blinded sheet of a run's answers for people to label, and their labels read back"""
    parser = _parser("label")
    parser.add_argument("run", metavar="RUN", help="a run's name below paths.runs, or its folder")
    parser.add_argument("sheet", type=Path, metavar="SHEET.csv", help="the sheet to write, or to read with --read")
    parser.add_argument("-n", type=int, default=100, help="how many answers to write (100)")
    parser.add_argument("--read", action="store_true", help="read the labelled sheet back into the run")
    asked, spec = _parsed(parser, argv, "paths.runs=DIR seed=1")
    from dalign import labels

    folder = _run_folder(asked.run, spec)
    return labels.read(folder, asked.sheet) if asked.read else labels.write(folder, asked.sheet, asked.n, spec.seed)


def _judge_audit(argv: Sequence[str]) -> int:
    """judges against human labels: accuracy, precision, recall, kappa, by length and category"""
    parser = _parser("judge-audit")
    parser.add_argument("file", type=Path, help="JSONL: prompt, response and label (unsafe or safe), one answer a line")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same numbers as JSON")
    asked, spec = _parsed(parser, argv, "judge@judges.harm=llama_guard3 +judge@judges.harm_b=server")
    from dalign import audit

    return audit.main(spec, asked.file, asked.json)


def _power(argv: Sequence[str]) -> int:
    """the smallest effect that a planned run can see"""
    parser = _parser("power")
    parser.add_argument("--prompts", type=int, nargs="+", default=[60, 100, 313, 1405], help="numbers of prompts")
    parser.add_argument("--rate", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4], help="rates of one answer")
    parser.add_argument("--samples", type=int, default=8, help="N, the answers drawn for each prompt (8)")
    parser.add_argument(
        "--correlation", type=float, default=0.5, help="of two answers to one prompt, both unsafe or not (0.5)"
    )
    parser.add_argument("--comparisons", type=int, default=1, help="primary comparisons tested together (1)")
    asked = parser.parse_args(argv)
    from dalign import power

    return power.main(asked.prompts, asked.rate, asked.samples, asked.correlation, asked.comparisons)


def _demo(argv: Sequence[str]) -> int:
    """the whole way on the embedded world, on a CPU, offline"""
    from dalign import demo

    return demo.main(argv)


def _doctor(argv: Sequence[str]) -> int:
    """what this machine has, what is missing, and what to do"""
    parser = _parser("doctor")
    parser.add_argument("overrides", nargs="*", help="key=value, as for evaluate: paths.data=DIR paths.runs=DIR")
    asked = parser.parse_args(argv)
    from dalign import doctor

    return doctor.main(asked.overrides)


def _worker(argv: Sequence[str]) -> int:
    """one resolved job in this process; the others start it"""
    from dalign import worker

    return worker.main(list(argv))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "report": _report,
    "score": _score,
    "try": _try,
    "import": _import,
    "export": _export,
    "contamination": _contamination,
    "label": _label,
    "judge-audit": _judge_audit,
    "power": _power,
    "demo": _demo,
    "doctor": _doctor,
    "worker": _worker,
}


def _parser(command: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=f"dalign {command}", description=COMMANDS[command].__doc__)


def _parsed(parser: argparse.ArgumentParser, argv: Sequence[str], example: str) -> tuple[argparse.Namespace, RunSpec]:
    """The arguments, and the one configuration that the overrides behind them make."""
    parser.add_argument("overrides", nargs="*", help=f"key=value, as for evaluate: {example}")
    asked = parser.parse_intermixed_args(argv)
    return asked, _one_spec(asked.overrides)


def _one_spec(overrides: Sequence[str]) -> RunSpec:
    from dalign.config import check

    specs = check("evaluate", overrides)
    if len(specs) != 1:
        raise ConfigError("this command takes one configuration, not a sweep; drop -m")
    return specs[0]


def _run_folders(name: str, spec: RunSpec) -> list[Path]:
    """The folder of a run, or those of a sweep's runs."""
    for folder in (Path(spec.paths.runs).expanduser() / name, Path(name).expanduser()):
        runs = sorted(path.parent for path in folder.glob("*/evaluate") if path.is_dir())
        if runs and not (folder / "evaluate").is_dir():
            return runs
    return [_run_folder(name, spec)]


def _run_folder(name: str, spec: RunSpec) -> Path:
    below = Path(spec.paths.runs).expanduser() / name
    for folder in (below, Path(name).expanduser()):
        if (folder / "evaluate").is_dir():
            return folder
    raise ArtifactError(f"{name}: no run with an evaluate/ folder, neither {below} nor {name}; run evaluate first")
