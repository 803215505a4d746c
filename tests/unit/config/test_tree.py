"""The processes of a job end together: exit codes, what is told, interrupts, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dalign import tree
from dalign.errors import LostPeerError
from dalign.tree import Start, run_tree

SLEEP = "import time; time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
LOST = f"import sys, time; time.sleep(0.3); sys.exit({LostPeerError.exit_code})"


def starts(*codes: str, folder: Path | None = None) -> list[Start]:
    """Processes that run so much Python; all but the first print to a file."""
    return [
        Start([sys.executable, "-c", code], dict(os.environ), folder / f"{i}.log" if folder and i else None)
        for i, code in enumerate(codes)
    ]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_workers_exit_code_is_the_jobs(code: int) -> None:
    assert run_tree(starts(f"raise SystemExit({code})")) == code


def test_a_worker_that_a_signal_ends_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tree(starts("import os; os.kill(os.getpid(), 9)")) == 128 + signal.SIGKILL
    assert "error: the job was ended by SIGKILL (out of memory?); rerun it to continue" in capfd.readouterr().err


def test_all_must_succeed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tree(starts("pass", "print('quiet')", "pass", folder=tmp_path)) == 0
    assert capfd.readouterr() == ("", "")
    assert run_tree(starts("pass", "pass", "raise SystemExit(2)", folder=tmp_path)) == 2


@pytest.mark.parametrize(("failing", "peer"), [(0, SLEEP), (1, SLEEP), (1, DEAF), (0, DEAF)])
def test_the_first_to_fail_ends_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: int, peer: str
) -> None:
    monkeypatch.setattr(tree, "PEER_GRACE", 0.2)
    note = f"import os, pathlib; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); "
    ends = f"import time\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\nraise SystemExit(3)"
    codes = [note + peer, note + peer]
    codes[failing] = "import os\n" + ends
    started = time.monotonic()
    assert run_tree(starts(*codes, folder=tmp_path)) == 3
    assert time.monotonic() - started < 20
    assert not _alive(int((tmp_path / "pid").read_text()))


def test_who_only_lost_another_is_not_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It may be the first to be gone; what the other had to say is shown."""
    monkeypatch.setattr(tree, "PEER_GRACE", 5.0)
    says = "import sys, time; time.sleep(1.0); print('the reason', file=sys.stderr); sys.exit(2)"
    assert run_tree(starts(LOST, says, LOST, folder=tmp_path)) == 2
    assert capfd.readouterr().err == "process 1 of this job failed:\nthe reason\n"
    assert run_tree(starts("pass", LOST, folder=tmp_path)) == LostPeerError.exit_code


def test_a_signal_to_another_than_the_first_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_tree(starts(LOST, "import os; os.kill(os.getpid(), 9)", folder=tmp_path)) == 128 + signal.SIGKILL
    assert "process 1 was ended by SIGKILL (out of memory?); rerun it to continue" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_workers_and_exits_with_130(number: int, tmp_path: Path) -> None:
    parent, workers = _started(tmp_path)
    os.kill(parent.pid, number)
    assert parent.wait(30) == 130
    assert not any(map(_alive, workers))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a worker with its parent on Linux alone")
def test_kill_9_of_the_command_leaves_no_second_writer(tmp_path: Path) -> None:
    parent, workers = _started(tmp_path)
    parent.kill()
    parent.wait(30)
    deadline = time.monotonic() + 10
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_alive, workers))


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A process that runs two workers by ``run_tree``, and the workers' ids."""
    notes = [folder / "first", folder / "second"]
    codes = [
        f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
        for note in notes
    ]
    code = f"""
import os, sys
from dalign.tree import Start, run_tree
sys.exit(run_tree([Start([sys.executable, "-c", code], dict(os.environ)) for code in {codes!r}]))
"""
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not all(note.exists() and note.read_text() for note in notes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return parent, [int(note.read_text()) for note in notes]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
