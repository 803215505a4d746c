"""Jobs in processes of their own: a clean environment, exit codes, the end of one with the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from dalign import launch
from dalign.config import check
from dalign.launch import Outcomes, run_job, scrubbed
from dalign.specs.run import RunSpec


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return check("evaluate", ["run=study"])[0]


def test_no_rank_of_another_job_is_passed_on() -> None:
    left = {"LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x", "NODE_RANK": "0"}
    found = scrubbed({**left, "HOME": "/h", "HF_HUB_OFFLINE": "1"})
    assert {k: v for k, v in found.items() if k != "PYTHONPATH"} == {"HOME": "/h", "HF_HUB_OFFLINE": "1"}


def test_the_checkout_goes_before_what_pythonpath_holds() -> None:
    root = str(Path(__file__).parents[3])
    assert scrubbed({"PYTHONPATH": "/x"})["PYTHONPATH"] == f"{root}{os.pathsep}/x"


def test_the_worker_reads_the_resolved_spec_from_a_file_that_goes_away(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def worker(command: Sequence[str]) -> int:
        seen.append(Path(command[command.index("--config") + 1]))
        assert RunSpec.model_validate_json(seen[0].read_text()) == spec
        assert command[-2:] == ["--verb", "evaluate"]
        return 2

    monkeypatch.setattr(launch, "_wait_for", worker)
    assert run_job(spec, "evaluate") == 2
    assert not seen[0].exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_workers_exit_code_is_the_jobs(code: int) -> None:
    assert launch._wait_for([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_a_worker_that_a_signal_ends_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    code = launch._wait_for([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    assert code == 128 + signal.SIGKILL
    assert "SIGKILL (out of memory?); rerun it to continue" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_its_worker_and_exits_with_130(number: int, tmp_path: Path) -> None:
    parent, worker = _started(tmp_path)
    os.kill(parent.pid, number)
    assert parent.wait(30) == 130
    assert not _alive(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends a worker with its parent on Linux alone")
def test_kill_9_of_the_command_leaves_no_second_writer(tmp_path: Path) -> None:
    parent, worker = _started(tmp_path)
    parent.kill()
    parent.wait(30)
    deadline = time.monotonic() + 10
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _started(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A process that runs a worker by ``_wait_for``, and the worker's id."""
    note = folder / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    code = f"import sys\nfrom dalign import launch\nlaunch._wait_for([sys.executable, '-c', {child!r}])"
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return parent, int(note.read_text())


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_single_job_gives_its_own_exit_code(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (0, 1, 2, 130):
        monkeypatch.setattr(launch, "run_job", lambda spec, verb, code=code: code)
        outcomes = Outcomes(1)
        outcomes.add(spec, "train")
        assert (outcomes.exit_code, outcomes.table()) == (code, "")


def test_a_sweep_goes_on_after_a_failed_job_and_tells_it(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([0, 2, 1])
    monkeypatch.setattr(launch, "run_job", lambda spec, verb: next(codes))
    outcomes = Outcomes(3)
    for _ in range(3):
        outcomes.add(spec, "train")
    assert outcomes.exit_code == 1
    lines = outcomes.table().splitlines()
    assert "3 jobs, 2 failed" in lines[1]
    assert [line.rpartition("s  ")[2] for line in lines[2:]] == [
        "ok",
        "failed: see its message",
        "failed: a bug, see its traceback",
    ]


def test_a_sweep_that_ends_early_has_not_succeeded(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "run_job", lambda spec, verb: 0)
    outcomes = Outcomes(2)
    outcomes.add(spec, "train")
    assert outcomes.exit_code == 1
