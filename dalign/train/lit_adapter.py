"""What every Lightning module that trains an adapter shares: its optimiser, and checkpoints of what it moves alone.

One Lightning batch is one step of the plan, so a step is never half done and resuming is exact.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from dalign.errors import ArtifactError, ModelError
from dalign.ranks import ALONE, Ranks
from dalign.records import digest
from dalign.specs.optimiser import OptimiserSpec
from dalign.train.checkpoint import verify_keys
from dalign.train.forward import CausalParts, trainable_parameters
from dalign.train.loader import PlannedSteps
from dalign.train.plan import learning_rate

Row = Mapping[str, float | int | str | None]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes, in the names' order."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


class LitAdapter(LightningModule):
    """Moves ``model``'s trainable tensors, by AdamW. ``log`` takes a row a step; ``plan_digest`` says what the steps
    are of. Each of ``ranks`` has gradients of its share of a step, their sum moves the tensors of all alike. Raises
    ``ModelError`` if nothing is trainable."""

    def __init__(
        self,
        model: nn.Module,
        parts: CausalParts,
        optimiser: OptimiserSpec,
        steps: PlannedSteps[Any],
        plan_digest: str,
        log: Callable[[Row], None],
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # the frozen base is not in the checkpoint; the key set is verified by us
        self.model, self.parts, self.optimiser, self.steps = model, parts, optimiser, steps
        self.plan_digest, self.log_row, self.ranks = plan_digest, log, ranks
        self.trained = trainable_parameters(model)
        self.initial = tensors_digest(self.trained)

    def on_train_start(self) -> None:
        """Whether made or read from a checkpoint, they are the same everywhere before the first step."""
        self.require_one_model()

    def require_one_model(self) -> None:
        """Raises ``RuntimeError`` unless the tensors that are trained are the same in all processes, bit for bit."""
        if self.ranks.world > 1:
            self.ranks.require_equal((tensors_digest(self.trained), self.plan_digest), "trained tensors")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the trainable tensors alone."""
        spec = self.optimiser
        return torch.optim.AdamW(self.trained.values(), lr=spec.lr, weight_decay=spec.weight_decay)

    def train_dataloader(self) -> PlannedSteps[Any]:
        return self.steps

    def begin_step(self, step: int) -> tuple[Any, float]:
        """The optimiser, without gradients and at the rate of ``step`` (from 0), and that rate.

        Several processes draw dropout from streams of their own, named by step and rank: alone, it goes on from where
        the step before left it.
        """
        optimizer: Any = self.optimizers()
        if self.ranks.world > 1:
            torch.manual_seed(int(digest("step", self.plan_digest, step, self.ranks.rank), 16))
        rate = learning_rate(self.optimiser, step, len(self.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        return optimizer, rate

    def clip_gradients_of(self, step: int, loss: float, about: str) -> float:
        """Adds up the gradients of all processes, clips them and returns their norm. ``loss`` is the whole step's.
        Raises ``ModelError``, in all, if it or the norm is not finite."""
        self.ranks.add_gradients(list(self.trained.values()))
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), self.optimiser.clip))
        if math.isfinite(loss) and math.isfinite(norm):
            return norm
        raise ModelError(
            f"loss {loss}, gradient norm {norm} at optimiser step {step + 1}: stopped before the weights were touched; "
            f"the last checkpoint stands. Lower stage.lr={self.optimiser.lr}, or use model.dtype=float32. {about}"
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The trainable tensors, by their names in ``model``."""
        return {name: p.detach() for name, p in self.trained.items()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> None:
        """Copies the tensors in. Raises ``ArtifactError`` unless names, shapes and dtypes are exactly these."""
        verify_keys(state_dict, self.trained)
        for name, p in self.trained.items():
            p.copy_(state_dict[name])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"plan": self.plan_digest, "initial": self.initial}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises ``ArtifactError`` if the checkpoint was made on other examples, or in another order."""
        if checkpoint["plan"] != self.plan_digest:
            raise ArtifactError(
                "the checkpoint was made on other examples or in another order; use another run=NAME, or delete it"
            )
        self.initial = checkpoint["initial"]
