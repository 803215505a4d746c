"""LitDistill: one Lightning batch is one optimiser step, so a step is never half done and resuming is exact.

The loss is the sum over the step's completion tokens divided by their number: how the step is cut into micro-batches
changes nothing. Validation runs at the end of a step, before the checkpoint callback, so that a checkpoint after step k
has the validation of step k behind it; Lightning's own loop would validate after the checkpoint.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from dalign.errors import ArtifactError, ModelError
from dalign.specs.stage import DistillStage
from dalign.train.checkpoint import verify_keys
from dalign.train.forward import CausalParts, trainable_parameters
from dalign.train.loader import Batch, PlannedSteps, StepBatch
from dalign.train.losses import Sums, completion_sums
from dalign.train.plan import learning_rate

Row = Mapping[str, float | int | str | None]


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes, in the names' order."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


class LitDistill(LightningModule):
    """Supervised fine-tuning of ``model``'s trainable tensors on completions.

    ``log`` takes a row a step (``step`` counts finished steps; loss in nats a completion token) and a row a validation.
    Raises ``ModelError`` on a loss or gradient norm that is not finite, and if nothing is trainable.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: CausalParts,
        stage: DistillStage,
        steps: PlannedSteps,
        validation: Sequence[Batch],
        log: Callable[[Row], None],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # the frozen base is not in the checkpoint; the key set is verified by us
        self.model, self.parts, self.stage, self.steps, self.validation = model, parts, stage, steps, validation
        self.log_row = log
        self.trained = trainable_parameters(model)
        self.initial = tensors_digest(self.trained)
        self.plan_digest = steps.plan.digest(steps.batches.examples)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the trainable tensors alone."""
        return torch.optim.AdamW(self.trained.values(), lr=self.stage.lr, weight_decay=self.stage.weight_decay)

    def train_dataloader(self) -> PlannedSteps:
        return self.steps

    def on_train_start(self) -> None:
        """The validation before the first step; a resumed run has it already."""
        if self.steps.done == 0:
            self._validate(0)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimiser step: forward and backward of its micro-batches, clipping, AdamW, rows, validation if due."""
        started = time.perf_counter()
        optimizer: Any = self.optimizers()
        rate = learning_rate(self.stage, batch.step, len(self.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        sums = [self._accumulate(part, batch.completion_tokens) for part in batch.parts]
        norm = float(nn.utils.clip_grad_norm_(self.trained.values(), self.stage.clip))
        loss = sum(float(s.loss) for s in sums) / batch.completion_tokens
        self._require_finite(batch.step, loss, norm)
        optimizer.step()
        self.steps.done = batch.step + 1
        row = {
            "step": batch.step + 1,
            "epoch": self.steps.plan.epochs[batch.step],
            "loss": loss,
            "token_accuracy": sum(int(s.correct) for s in sums) / batch.completion_tokens,
            "grad_norm": norm,
            "lr": rate,
            "tokens": batch.tokens,
            "tokens_per_s": round(batch.tokens / (time.perf_counter() - started), 1),
        }
        self.log_row(row)
        if self.steps.done % self.stage.validate_every == 0 or self.steps.done == len(self.steps):
            self._validate(self.steps.done)

    def _accumulate(self, part: Batch, completion_tokens: int) -> Sums:
        sums = completion_sums(
            self.parts.states(part.ids), part.ids, part.mask, self.parts.head, chunk=self.parts.chunk
        )
        self.manual_backward(sums.loss / completion_tokens)
        return sums._replace(loss=sums.loss.detach())

    def _require_finite(self, step: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        examples = self.steps.batches.examples
        ids = [examples[i].id for i in self.steps.plan.steps[step]]
        raise ModelError(
            f"loss {loss}, gradient norm {norm} at optimiser step {step + 1}: stopped before the weights were touched; "
            f"the last checkpoint stands. Lower stage.lr={self.stage.lr}, or use model.dtype=float32. "
            f"The step's traces: {', '.join(ids[:4])}{' ...' if len(ids) > 4 else ''}"
        )

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Mean loss and accuracy over the held-out completion tokens, with dropout off."""
        if not self.validation:
            return
        self.model.eval()
        loss, correct, tokens = 0.0, 0, 0
        for batch in self.validation:
            ids, mask = batch.ids.to(self.device), batch.mask.to(self.device)
            sums = completion_sums(self.parts.states(ids), ids, mask, self.parts.head, chunk=self.parts.chunk)
            loss, correct, tokens = loss + float(sums.loss), correct + int(sums.correct), tokens + sums.tokens
        self.model.train()
        if not math.isfinite(loss):
            raise ModelError(f"validation loss {loss} after {step} steps; lower stage.lr={self.stage.lr}")
        self.log_row({"step": step, "validation_loss": loss / tokens, "validation_token_accuracy": correct / tokens})

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
