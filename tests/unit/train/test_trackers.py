"""metrics.jsonl is the record; trackers get the same numbers, under one run a folder, and are always closed."""

from __future__ import annotations

import csv
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_stage import metrics, open_folder, run_spec, run_stage

from dalign.specs.stage import LoggerSpec
from dalign.train.trackers import tracking


def spec_with(logger: str, checkpoint: Path) -> Any:
    return run_spec(checkpoint, {"max_steps": 3}).model_copy(update={"logger": LoggerSpec(name=logger, project="p")})


def test_the_csv_is_derived_from_the_record(tmp_path: Path, tiny_checkpoint: Path) -> None:
    run_stage(spec_with("csv", tiny_checkpoint), tmp_path)
    with (tmp_path / "metrics.csv").open() as stream:
        table = list(csv.DictReader(stream))
    rows = metrics(tmp_path)
    assert [int(r["step"]) for r in table] == [r["step"] for r in rows] == [0, 1, 2, 2, 3, 3]
    assert [float(r["loss"]) for r in table if r["loss"]] == [r["loss"] for r in rows if "loss" in r]
    assert list(table[0])[:3] == ["step", "validation_loss", "validation_token_accuracy"]


def test_tensorboard_gets_every_row_and_forgets_steps_done_again(tmp_path: Path, tiny_checkpoint: Path) -> None:
    spec = spec_with("tensorboard", tiny_checkpoint)
    with open_folder(tmp_path) as folder:
        with tracking(spec, folder, resumed=0) as log:
            for step in (1, 2, 3):
                log({"step": step, "loss": float(step), "note": "words stay here"})
        with tracking(spec, folder, resumed=2) as log:
            log({"step": 3, "loss": 30.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss"]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert len(metrics(tmp_path)) == 4


class FakeRun:
    def __init__(self, **options: Any) -> None:
        self.options, self.rows, self.finished = options, [], 0

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize(("logger", "mode"), [("wandb", "online"), ("wandb_offline", "offline")])
def test_wandb_runs_are_finished_and_a_rerun_continues_its_own(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, logger: str, mode: str
) -> None:
    """Without ``finish`` the next run of the process takes over the first one's id."""
    runs: list[FakeRun] = []
    fake = SimpleNamespace(init=lambda **o: runs.append(FakeRun(**o)) or runs[-1], Settings=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    spec = spec_with(logger, tiny_checkpoint)
    for name in ("one", "one", "two"):
        with open_folder(tmp_path / name) as folder, suppress(KeyError), tracking(spec, folder, resumed=0) as log:
            log({"step": 1, "loss": 0.5, "note": "words stay here"})
            raise KeyError
    assert [r.finished for r in runs] == [1, 1, 1]
    assert [r.rows for r in runs] == [[(1, {"loss": 0.5})]] * 3
    first, again, other = (r.options for r in runs)
    assert first["id"] == again["id"] != other["id"]
    assert (first["mode"], first["project"], first["job_type"], first["group"]) == (mode, "p", "distill", "r")
