"""The embedded world's evidence, seed after seed: python campaign/evidence.py --seeds 100-109 [--parts PART ...]

What docs/results.md reports, as the commands of a user, each in its own process. Parts, in their order: ``world``
trains the seed's base, teacher and guard; ``student`` writes and filters traces and distils; ``main`` draws 8 answers a
prompt, judges them, trains probes; ``controls`` trains an unrelated base, scores the same answers with one thing
changed, and reads them by the released code's choices; ``grpo`` goes on from the student by reinforcement learning, and
draws and judges as ``main`` does; ``reversed`` and ``answers`` make the other students of
docs/control_students.md; ``k16`` draws 8 more answers and comes last: controls are of the answers that were there.
Every stage continues where it stood, so the same line again does what is missing; a seed whose command fails is left at
that, and the next one is begun. Reporting seeds (100 and up) run on
committed code alone, and on one commit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_REPORTING_SEED = 100
PARTS = ("world", "student", "main", "controls", "grpo", "reversed", "answers", "k16")
PROBES = ("stage=probe", "stage.methods=[logistic,class_means,conditional,refusal_direction]")
ATTACKS = "benchmark=[toy_dan,toy_wildjailbreak,toy_strongreject]"
Command = tuple[str, ...]


def main() -> int:
    """Runs what is asked for; the exit code is 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=_seeds, required=True, help="of the world: 3 or 100-109")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of the run folders (runs)")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/dalign"), help="where made worlds lie")
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    asked = parser.parse_args()
    if max(asked.seeds) >= FIRST_REPORTING_SEED and not asked.dry_run:
        _one_commit(asked.runs)
    failed = []
    for seed in asked.seeds:
        plan = (c for part in PARTS if part in asked.parts for c in commands(part, seed, asked.runs, asked.cache))
        if asked.dry_run:
            for command in plan:
                print(*command)
        elif any(_failed(seed, command, asked.runs) for command in plan):
            failed.append(str(seed))
    if failed:
        print(f"failed, and left at that: seed {', '.join(failed)}")
    return int(bool(failed))


def commands(part: str, seed: int, runs: Path, cache: Path) -> Iterator[Command]:
    """The command lines of one part for one seed; what stands is not asked for again where a command would refuse."""
    places = ("trainer.threads=1", f"paths.runs={runs}", f"paths.cache={cache}")
    shared = (f"world_seed={seed}", *places)
    of, demo, other = (*shared, f"run=demo-{seed}"), runs / f"demo-{seed}", runs / f"unrelated-{seed}"
    evaluate, train = ("dalign", "evaluate"), ("dalign", "train")
    if part == "world":
        yield (*train, "stage=pretrain", *of)
    if part == "student":
        yield from ((*train, "experiment=demo", f"stage={stage}", *of) for stage in ("traces", "distill"))
    if part == "main":
        yield (*evaluate, "experiment=toy_evidence", *of, "policies=[base]", "sampler.n=1")
        yield (*evaluate, "experiment=toy_evidence", *of)
        yield (*train, "experiment=toy_evidence", *of, *PROBES)
    if part == "controls":
        if not other.exists():
            place = ("--world-seed", str(seed), "--cache", str(cache), "--out", str(other))
            yield ("python", "campaign/unrelated_base.py", *place)
        yield (*train, "experiment=toy_evidence", "stage=control", *of, ATTACKS, f"stage.unrelated={other}")
        yield (*evaluate, "experiment=toy_evidence", *of, "protocol=released_code")
    if part == "grpo":
        yield (*train, "experiment=demo", "stage=grpo", "dataset=toy_requests", *of)
        yield (*evaluate, "experiment=toy_evidence", *of, "policies=[distill,grpo]")
    if part == "reversed":
        if not (demo / "merged").exists():  # an export names the world by its run
            yield ("dalign", "export", f"demo-{seed}", "--out", str(demo / "merged"), *places)
        yield (*train, "experiment=reversed", "stage=traces", *shared)
        traces = ",".join(f"{runs}/{name}-{seed}/traces/traces.parquet" for name in ("reversed", "demo"))
        yield (*train, "experiment=reversed", "stage=distill", *shared, f"inputs.traces=[{traces}]")
        yield (*evaluate, "experiment=reversed", *shared)
    if part == "answers":
        yield (*train, "experiment=answers_only", "stage=distill", *shared)
        yield (*evaluate, "experiment=answers_only", *shared)
    if part == "k16":
        yield (*evaluate, "experiment=toy_evidence", *of, "sampler.n=16")


def _seeds(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


def _one_commit(runs: Path) -> None:
    """Holds the runs to the commit they were begun on. Exits where files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if _git("status", "--porcelain", "--untracked-files=no"):
        sys.exit("reporting seeds run on committed code alone: commit or stash what git status shows")
    path = runs / "evidence.json"
    begun = json.loads(path.read_text())["commit"] if path.exists() else commit
    if _git("diff", "--name-only", begun, commit, "--", "dalign", "conf", "constraints.txt"):
        sys.exit(f"these runs were begun on {begun}, and the code has changed since: check that commit out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": begun}) + "\n")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _failed(seed: int, command: Sequence[str], runs: Path) -> bool:
    """Whether the command failed. Its output goes to ``evidence-SEED.log`` beside the runs."""
    runs.mkdir(parents=True, exist_ok=True)
    begun, (name, *words) = time.monotonic(), command
    line = [sys.executable, *(("-m", "dalign.cli") if name == "dalign" else ()), *words]
    with (runs / f"evidence-{seed}.log").open("a", encoding="utf-8") as log:
        code = subprocess.run(line, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    print(f"{time.monotonic() - begun:7.0f} s  exit code {code}  {' '.join(command)}", flush=True)
    return code != 0


if __name__ == "__main__":
    sys.exit(main())
