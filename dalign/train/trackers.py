"""Where metrics go besides ``metrics.jsonl``, which stays the record: W&B, TensorBoard, or a CSV derived from it.

A tracker gets the numbers and the configuration, never a text that was sampled. Lightning's CSVLogger would delete its
file on resuming, and a second W&B run in one process takes over the first one's id unless that was finished.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from dalign.files import write_text
from dalign.records import digest
from dalign.specs.run import RunSpec
from dalign.store import StageFolder

Row = Mapping[str, float | int | str | None]
Send = Callable[[dict[str, float], Any], None]


@contextmanager
def tracking(spec: RunSpec, folder: StageFolder, *, resumed: int) -> Iterator[Callable[[Row], None]]:
    """Yields what logs a row: to ``metrics.jsonl`` first, then to the tracker of ``spec.logger``.

    ``resumed`` is the number of steps already done: TensorBoard forgets what it was told of later ones.
    """
    with ExitStack() as stack:
        send = _tracker(spec, folder, resumed, stack)

        def log(row: Row) -> None:
            folder.log(row)
            send({k: float(v) for k, v in row.items() if k != "step" and isinstance(v, int | float)}, row.get("step"))

        yield log


def _tracker(spec: RunSpec, folder: StageFolder, resumed: int, stack: ExitStack) -> Send:
    if spec.logger.name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        purge = resumed + 1 if resumed else None
        writer = stack.enter_context(SummaryWriter(str(folder.path / "tensorboard"), purge_step=purge))

        def add(values: dict[str, float], step: Any) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        return add
    if spec.logger.name in ("wandb", "wandb_offline"):
        run = stack.enter_context(_wandb_run(spec, folder))
        return lambda values, step: run.log(values, step=step)
    return lambda values, step: None


@contextmanager
def _wandb_run(spec: RunSpec, folder: StageFolder) -> Iterator[Any]:
    """A W&B run that a rerun of the command continues: its id hashes the folder and the moment it was made."""
    import wandb

    made = (folder.path / "inputs.json").stat().st_mtime_ns
    stage = spec.stage.name if spec.stage else "evaluate"
    run = wandb.init(
        project=spec.logger.project,
        entity=spec.logger.entity,
        id=digest("tracker", str(folder.path.resolve()), made),
        name=f"{spec.run}/{stage}",
        group=spec.run,
        job_type=stage,
        mode="offline" if spec.logger.name == "wandb_offline" else "online",
        resume="allow",
        dir=str(folder.path),
        config=spec.model_dump(mode="json"),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
    )
    try:
        yield run
    finally:
        run.finish()


def write_csv(folder: StageFolder) -> None:
    """``metrics.csv``: a row for each of ``metrics.jsonl``, its columns in the order they first occur there."""
    lines = (folder.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder.path / "metrics.csv", text.getvalue())
