"""Jobs in processes of their own: a clean environment, as many as the trainer says, exit codes of sweeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dalign import launch
from dalign.config import check
from dalign.errors import ConfigError
from dalign.joining import STORE
from dalign.launch import Outcomes, require_startable, run_job, scrubbed
from dalign.specs.run import RunSpec
from dalign.tree import Start


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

    def tree(starts: Sequence[Start]) -> int:
        ((command, _, output),) = ((start.command, start.environment, start.output) for start in starts)
        seen.append(Path(command[command.index("--config") + 1]))
        assert RunSpec.model_validate_json(seen[0].read_text()) == spec
        assert command[-2:] == ["--verb", "evaluate"]
        assert output is None
        return 2

    monkeypatch.setattr(launch, "run_tree", tree)
    assert run_job(spec, "evaluate") == 2
    assert not seen[0].exists()


def places(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *overrides: str) -> list[Start]:
    """What a distillation under ``environment`` would start."""
    seen: list[Start] = []
    monkeypatch.setattr(launch, "run_tree", lambda starts: seen.extend(starts) or 0)
    monkeypatch.setattr(os, "environ", environment)
    (one,) = check("train", ["run=study", "stage=distill", *overrides])
    assert run_job(one, "train") == 0
    return seen


def test_a_process_is_started_for_each_device_of_ddp(monkeypatch: pytest.MonkeyPatch) -> None:
    left = {"RANK": "5", "MASTER_PORT": "1", "CUDA_VISIBLE_DEVICES": "4,6,7"}
    first, second, third = places(monkeypatch, left, "trainer=ddp", "trainer.devices=3")
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES")
    assert [[start.environment[name] for name in names] for start in (first, second, third)] == [
        ["0", "0", "3", "3", "4"],
        ["1", "1", "3", "3", "6"],
        ["2", "2", "3", "3", "7"],
    ]
    assert len({start.environment[STORE] for start in (first, second, third)}) == 1
    assert first.command == second.command == third.command, "all read the one file"
    assert first.output is None
    assert len({second.output, third.output, None}) == 3
    assert "MASTER_PORT" not in first.environment


def test_each_process_sees_a_gpu_of_its_own_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(environment: dict[str, str], trainer: str) -> list[str | None]:
        starts = places(monkeypatch, environment, f"trainer={trainer}")
        return [start.environment.get("CUDA_VISIBLE_DEVICES") for start in starts]

    assert seen({}, "ddp") == ["0", "1"]
    assert seen({"CUDA_VISIBLE_DEVICES": "3"}, "ddp") == ["3", ""]
    assert seen({"CUDA_VISIBLE_DEVICES": "3"}, "ddp_cpu") == ["3", "3"]
    assert seen({}, "cpu") == [None]


OUTSIDE = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "x",
}


def test_under_torchrun_no_second_tree_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    (only,) = places(monkeypatch, dict(OUTSIDE), "trainer=ddp")
    assert {name: only.environment[name] for name in OUTSIDE} == OUTSIDE
    assert STORE not in only.environment
    assert only.environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert only.output is None


def test_another_number_of_processes_than_the_trainers_is_refused() -> None:
    (two,), (one,) = (check("train", ["run=s", "stage=distill", f"trainer={name}"]) for name in ("ddp_cpu", "cpu"))
    require_startable([two], OUTSIDE)
    require_startable([one, two], {})
    with pytest.raises(ConfigError, match=r"WORLD_SIZE=2.*trainer\.devices=1 .*give trainer=ddp trainer\.devices=2"):
        require_startable([one], OUTSIDE)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE=4.*trainer\.devices=2 "):
        require_startable([two], {**OUTSIDE, "WORLD_SIZE": "4"})
    with pytest.raises(ConfigError, match="a sweep"):
        require_startable([two, two], OUTSIDE)
    require_startable([one], {"WORLD_SIZE": "2"})  # left over: it says not where the others are


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
