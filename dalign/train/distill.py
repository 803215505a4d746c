"""LitDistill: one Lightning batch is one optimiser step, so a step is never half done and resuming is exact.

The loss is the sum over the step's completion tokens divided by their number: how the step is cut into micro-batches
changes nothing. Validation runs at the end of a step, before the checkpoint callback, so that a checkpoint after step k
has the validation of step k behind it; Lightning's own loop would validate after the checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from dalign.errors import ModelError
from dalign.ranks import ALONE, Ranks
from dalign.specs.stage import DistillStage
from dalign.train.forward import CausalParts
from dalign.train.lit_adapter import LitAdapter, Row
from dalign.train.loader import Batch, Batches, PlannedSteps, StepBatch
from dalign.train.losses import Sums, completion_sums


class LitDistill(LitAdapter):
    """Supervised fine-tuning of ``model``'s trainable tensors on completions.

    ``log`` takes a row a step (``step`` counts finished steps; loss in nats a completion token) and a row a validation.
    Raises ``ModelError`` on a loss or gradient norm that is not finite, and if nothing is trainable.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: CausalParts,
        stage: DistillStage,
        steps: PlannedSteps[Batches],
        validation: Sequence[Batch],
        log: Callable[[Row], None],
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(model, parts, stage, steps, steps.plan.digest(steps.batches.examples), log, ranks)
        self.stage, self.validation = stage, validation

    def on_train_start(self) -> None:
        """The validation before the first step; a resumed run has it already."""
        super().on_train_start()
        if self.steps.done == 0:
            self._validate(0)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimiser step: forward and backward of its micro-batches, clipping, AdamW, rows, validation if due."""
        started = time.perf_counter()
        optimizer, rate = self.begin_step(batch.step)
        sums = [self._accumulate(part, batch.completion_tokens) for part in batch.parts]
        nats, correct, tokens = self.ranks.total(
            sum(float(s.loss) for s in sums), sum(int(s.correct) for s in sums), sum(s.tokens for s in sums)
        )
        if tokens != batch.completion_tokens:
            raise RuntimeError(f"{tokens} of the step's {batch.completion_tokens} completion tokens were trained on")
        loss = nats / batch.completion_tokens
        norm = self.clip_gradients_of(batch.step, loss, self._about(batch.step))
        optimizer.step()
        self.steps.done = batch.step + 1
        row = {
            "step": batch.step + 1,
            "epoch": self.steps.plan.epochs[batch.step],
            "loss": loss,
            "token_accuracy": correct / batch.completion_tokens,
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

    def _about(self, step: int) -> str:
        examples = self.steps.batches.examples
        ids = [examples[i].id for i in self.steps.plan.steps[step]]
        return f"The step's traces: {', '.join(ids[:4])}{' ...' if len(ids) > 4 else ''}"

    @torch.no_grad()
    def _validate(self, step: int) -> None:
        """Mean loss and accuracy over the held-out completion tokens, with dropout off."""
        if not self.validation:
            return
        self.model.eval()
        loss, correct, tokens = 0.0, 0.0, 0.0
        for i in self.ranks.mine([batch.ids.numel() for batch in self.validation]):
            ids, mask = self.validation[i].ids.to(self.device), self.validation[i].mask.to(self.device)
            sums = completion_sums(self.parts.states(ids), ids, mask, self.parts.head, chunk=self.parts.chunk)
            loss, correct, tokens = loss + float(sums.loss), correct + int(sums.correct), tokens + sums.tokens
        self.model.train()
        loss, correct, tokens = self.ranks.total(loss, correct, tokens)
        if not math.isfinite(loss):
            raise ModelError(f"validation loss {loss} after {step} steps; lower stage.lr={self.stage.lr}")
        self.log_row({"step": step, "validation_loss": loss / tokens, "validation_token_accuracy": correct / tokens})
