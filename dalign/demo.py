"""`dalign demo`: the whole way on the embedded world, as the commands a user would type, one process each."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

# Prompts of each benchmark; the training prompts are not limited.
LIMIT = "limit=64"
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the teacher reasons over the policies; the guard filters", ("train", "experiment=demo", "stage=traces")),
    ("the student learns the traces with LoRA", ("train", "experiment=demo", "stage=distill")),
    (
        "the student goes on by reinforcement, rewarded by the guard",
        ("train", "experiment=demo", "stage=grpo", "dataset=toy_requests"),
    ),
    ("8 answers a prompt, judged; a probe over the base's states", ("train", "experiment=demo", "stage=probe", LIMIT)),
    (
        "teacher, base and both students side by side: scores, selection, report",
        ("evaluate", "experiment=demo", "policies=[teacher,base,distill,grpo]", LIMIT),
    ),
)


def main(overrides: Sequence[str] = ()) -> int:
    """Runs the steps in order and returns the first exit code that is not 0; a rerun continues."""
    start = time.monotonic()
    for i, (title, words) in enumerate(STEPS, 1):
        command = [*words, *overrides]
        print(f"\n[{i}/{len(STEPS)}] {title}\n      dalign {' '.join(command)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "dalign.cli", *command], check=False).returncode
        if code:
            return code
    print(
        f"\nthe demo took {(time.monotonic() - start) / 60:.1f} minutes; rerun it, and it continues or returns at once"
    )
    return 0
