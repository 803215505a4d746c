"""The processes of one job: they start together, and end together with the first that fails.

The first one talks to the user. What the others print goes to files, and is shown where one of them failed first.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dalign.errors import LostPeerError

INTERRUPTED = 130
PEER_GRACE = 5.0  # for a process whose peer failed: it learns of it at their next sum
_GRACE = 20.0
_POLL = 0.05
_PR_SET_PDEATHSIG = 1
_SHOWN = 6000  # characters


@dataclass(frozen=True)
class Start:
    """A process to start: its command, its environment, and the file that takes what it prints (None: the user)."""

    command: Sequence[str]
    environment: Mapping[str, str]
    output: Path | None = None


def run_tree(starts: Sequence[Start]) -> int:
    """Runs the processes to their end and returns the exit code of the first that failed by itself, 0 if none did.

    One that a signal ended gives 128 + the signal, with a line that says so. When interrupted, raises ``SystemExit``
    (130) once all have ended.
    """
    workers: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        for start in starts:
            workers.append(_started(start))
        failed = _wait(workers)
    except KeyboardInterrupt:
        _end(workers, ((1.0, signal.SIGINT), (_GRACE, signal.SIGTERM), (_GRACE, signal.SIGKILL)))
        raise SystemExit(INTERRUPTED) from None  # the workers have said it; no job of a sweep follows
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0 if failed is None else _told(failed, workers[failed].returncode, starts[failed])


def _started(start: Start) -> subprocess.Popen[bytes]:
    with ExitStack() as stack:
        output = stack.enter_context(start.output.open("wb")) if start.output else None
        return subprocess.Popen(
            start.command,
            env=start.environment,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            preexec_fn=_end_with_parent,
        )


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Which of ``workers`` failed, all of which have ended; None if none did. One that ended because another had is
    taken only where no other reason is found."""
    if len(workers) == 1:
        return 0 if workers[0].wait() else None
    lost: list[int] = []
    deadline = float("inf")
    while True:
        codes = [worker.poll() for worker in workers]
        failed = [i for i, code in enumerate(codes) if code]
        if reasons := [i for i in failed if codes[i] != LostPeerError.exit_code]:
            _end(workers, ((PEER_GRACE, signal.SIGTERM), (PEER_GRACE, signal.SIGKILL)))
            return reasons[0]
        lost = lost or failed
        if None not in codes or time.monotonic() > deadline:
            _end(workers, ((PEER_GRACE, signal.SIGTERM), (PEER_GRACE, signal.SIGKILL)))
            return lost[0] if lost else None
        if lost:
            deadline = min(deadline, time.monotonic() + PEER_GRACE)
        time.sleep(_POLL)


def _told(rank: int, code: int, start: Start) -> int:
    """The exit code for the user, after what a process that they have not heard had to say."""
    if start.output is not None:
        said = start.output.read_text(encoding="utf-8", errors="replace").strip()
        print(f"process {rank} of this job failed:\n{said[-_SHOWN:]}", file=sys.stderr)
    if code >= 0:
        return code
    why = " (out of memory?)" if -code == signal.SIGKILL else ""
    who = "the job" if start.output is None else f"process {rank}"
    print(f"error: {who} was ended by {signal.Signals(-code).name}{why}; rerun it to continue", file=sys.stderr)
    return 128 - code


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _end(workers: Sequence[subprocess.Popen[bytes]], steps: Sequence[tuple[float, signal.Signals]]) -> None:
    """Waits for all so many seconds, then sends the signal to those still there; and so on, the last time for good."""
    for seconds, number in steps:
        deadline = time.monotonic() + seconds
        for worker in workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)
    for worker in workers:
        worker.wait()


def _end_with_parent() -> None:
    """In a worker, before it starts: it ends with this process, even by kill -9, or a rerun finds a second writer."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
