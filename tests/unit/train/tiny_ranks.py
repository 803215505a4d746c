"""The same trainings alone and as one of several processes; as a command, both of two.

``python tiny_ranks.py FOLDER CHECKPOINT ADAPTER JOB`` does every case in two processes, and last the stage that the
file JOB holds. What the first one found stands in FOLDER, each case in a file of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_grpo import grpo_spec, module_of, train
from tiny_stage import make_traces, run_spec

from dalign.followed import FollowedFolder
from dalign.joining import ended, joined
from dalign.models import load_model
from dalign.ranks import ALONE, Ranks
from dalign.specs.run import RunSpec
from dalign.specs.stage import DistillStage, TrainerSpec
from dalign.train.distill import LitDistill
from dalign.train.examples import build_examples
from dalign.train.fit import distill
from dalign.train.forward import prepared, take_apart
from dalign.train.lit_adapter import LitAdapter
from dalign.train.loader import Batches, PlannedSteps
from dalign.train.plan import make_plan
from dalign.train.trainer import fit, settle
from dalign.worker import run_as

BINARY = {"safe": {"kind": "safe", "judge": "harm", "binary": True}}
GRPO: dict[str, dict[str, Any]] = {
    **{name: {"loss": {"name": name, "beta": 0.1}} for name in ("dapo", "grpo", "dr_grpo", "cispo", "gspo")},
    "three groups": {"prompts": 3, "max_steps": 3},
    "one group": {"prompts": 1},
    "scaled by the batch": {"scale": "batch"},
    "drawn again": {"rewards": BINARY, "resample": 4},
    "masked": {"truncated": "mask"},
    "two updates": {"updates": 2, "lr": 2e-2},
}
DISTILL: dict[str, dict[str, Any]] = {
    "eight": {},
    "one": {"batch": 1, "max_steps": 5},
    "all": {"batch": 19, "epochs": 3},
}
CUT_AT = 3


class StoppedError(Exception):
    """Stands for a kill, in every process at the same row."""


class CutFolder(FollowedFolder):
    """Raises at the training row of step ``CUT_AT``, written or not."""

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        super().log(row)
        if row.get("step") == CUT_AT and "loss" in row:
            raise StoppedError


def placed(spec: RunSpec, ranks: Ranks) -> RunSpec:
    """The spec for so many processes, of a thread each."""
    trainer = TrainerSpec(name="t", accelerator="cpu", devices=ranks.world, strategy="ddp", threads=1)
    return spec.model_copy(update={"trainer": trainer})


def grpo_case(checkpoint: Path, adapter: str, options: Mapping[str, Any], ranks: Ranks = ALONE) -> dict[str, Any]:
    """Three steps in float64, gradients unclipped."""
    wanted = {"max_steps": 3, "lr": 1e-3, "clip": 1e9, "validate_every": 2, **options}
    spec = placed(grpo_spec(checkpoint, **wanted), ranks)
    module, rows = module_of(spec, adapter, double=True, held_out=3, ranks=ranks)
    seen = gradients_of(module)
    train(module, spec)
    return {"rows": rows, "gradients": seen, "tensors": dict(module.state_dict())}


def distill_case(checkpoint: Path, options: Mapping[str, Any], ranks: Ranks = ALONE) -> dict[str, Any]:
    """19 examples and 5 held out, in float64 without dropout, gradients unclipped; ``examples`` are those that went
    through this process's model, by their ids."""
    spec = placed(run_spec(checkpoint, {"epochs": 1, "clip": 1e9, **options}, lora={"dropout": 0.0}), ranks)
    assert isinstance(spec.stage, DistillStage)
    settle(spec.trainer, 0, ranks)
    loaded, stage = load_model(spec.model, new_lora=True), spec.stage
    loaded.model.double()
    found = build_examples(make_traces(24), loaded.chat, max_length=64, context=64, validation=stage.validation)
    plan = make_plan(len(found.train), batch=stage.batch, epochs=stage.epochs, max_steps=stage.max_steps, seed=0)
    steps = PlannedSteps(Batches(found.train, stage, ranks, context=64, pad_id=0), plan)
    held = Batches(found.validation, stage, ranks, context=64, pad_id=0).of(range(len(found.validation)))
    rows: list[dict[str, Any]] = []
    parts = take_apart(loaded.model, torch.tensor(found.train[0].ids[:8]))
    module = LitDistill(loaded.model, parts, stage, steps, held, lambda row: rows.append(dict(row)), ranks)
    seen, went = gradients_of(module), []
    known = {example.ids: example.id for example in found.train}

    def note(ids_BT: torch.Tensor) -> torch.Tensor:
        if loaded.model.training:
            went.extend(known[tuple(i for i in row if i != 0)] for row in ids_BT.tolist())
        return parts.states(ids_BT)

    module.parts = type(parts)(note, parts.head, parts.chunk)
    with prepared(loaded.model, recompute=False):
        module.train()
        fit(module, spec.trainer, device=torch.device("cpu"), max_steps=len(plan.steps))
    every = [name for names in ranks.everyones(went) for name in names]
    return {"rows": rows, "gradients": seen, "tensors": dict(module.state_dict()), "examples": every}


def gradients_of(module: LitAdapter) -> list[dict[str, torch.Tensor]]:
    """A list that takes the gradients of each optimiser step, as they are when it moves the weights."""
    seen: list[dict[str, torch.Tensor]] = []
    configure = module.configure_optimizers

    def configured() -> torch.optim.Optimizer:
        optimizer = configure()
        optimizer.register_step_pre_hook(
            lambda *_: seen.append({n: p.grad.clone() for n, p in module.trained.items() if p.grad is not None})
        )
        return optimizer

    module.configure_optimizers = configured  # type: ignore[method-assign]
    return seen


def stage_case(
    checkpoint: Path, folder: Path, ranks: Ranks = ALONE, *, cut: bool = False, dropout: float = 0.0
) -> None:
    """The distillation stage in ``folder``, to its end or to the row where it is cut."""
    # With a row a micro-batch, of five rows one process has three, and draws more masks than the other.
    uneven = {"batch": 5, "micro_batch_tokens": 1} if dropout else {}
    spec = placed(run_spec(checkpoint, uneven, lora={"dropout": dropout}), ranks)
    kind = CutFolder if cut else FollowedFolder
    try:
        with kind(folder, ranks, config={}, results={}, inputs={}) as opened:
            distill(spec, make_traces(24), opened, ranks=ranks)
    except StoppedError:
        assert cut


def main(folder: Path, checkpoint: Path, adapter: str, job: Path) -> int:
    """Every case, in the same order in every process."""
    torch.set_num_threads(1)
    with joined(TrainerSpec(name="t", accelerator="cpu", devices=2, strategy="ddp")) as ranks:
        cases: list[tuple[str, Callable[[], Any]]] = []
        cases += [(name, lambda o=o: grpo_case(checkpoint, adapter, o, ranks)) for name, o in GRPO.items()]
        cases += [(f"distill {name}", lambda o=o: distill_case(checkpoint, o, ranks)) for name, o in DISTILL.items()]
        for name, case in cases:
            found = case()
            if ranks.leads:
                torch.save(found, folder / f"{name}.pt")
        stage_case(checkpoint, folder / "begun on one", ranks)
        stage_case(checkpoint, folder / "begun on two", ranks, cut=True)
        stage_case(checkpoint, folder / "whole", ranks, dropout=0.2)
        stage_case(checkpoint, folder / "cut", ranks, dropout=0.2, cut=True)
        stage_case(checkpoint, folder / "cut", ranks, dropout=0.2)
        run_as(RunSpec.model_validate_json(job.read_text()), "train", ranks)
    return 0


def both(case: Callable[[], int]) -> int:
    """``case`` as the first and, in a child, as the second process: the imports, most of the time, are paid once."""
    child = os.fork()
    os.environ["RANK"] = "0" if child else "1"
    code = ended(case)
    return code or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else code


if __name__ == "__main__":
    sys.exit(both(lambda: main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))))
