"""LitGRPO: one Lightning batch is one rollout of whole groups, and the optimiser steps taken on it.

The policy is the distilled adapter, trainable; the reference is a copy of its tensors as they were, swapped in where it
is asked. Prompts, answers and order hang on seeds alone, so a resumed run goes on as if it had never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dalign.attribute.frozen import frozen
from dalign.errors import ModelError
from dalign.models import LoadedModel
from dalign.ranks import ALONE, Ranks
from dalign.records import Prompt
from dalign.specs.grpo import GrpoStage
from dalign.specs.sampling import SamplerSpec
from dalign.train.forward import CausalParts
from dalign.train.grpo_batch import Judged, Micro, micros, plain_micros, step_size
from dalign.train.grpo_draw import Drawer, PromptSteps, StepPrompts
from dalign.train.grpo_pack import packs
from dalign.train.grpo_rows import StepSums, answer_figures, step_row
from dalign.train.lit_adapter import LitAdapter, Row, tensors_digest
from dalign.train.loader import PlannedSteps
from dalign.train.logp import TokenLogp, token_logp
from dalign.train.lora_float32 import one_function
from dalign.train.policy_loss import StepSize, policy_loss
from dalign.train.rewards import Rewards
from dalign.train.shared_prompt import SharedPrompts

log = logging.getLogger(__name__)

FAR, FAR_IN_HALF = 1e-3, 3e-2  # mean |trainer - engine|, nats a token


class LitGRPO(LitAdapter):
    """Group-relative policy optimisation of ``loaded``'s trainable tensors.

    ``log_row`` takes a row a step and a row a validation. Raises ``ModelError`` on a loss or gradient that is not
    finite, if nothing is trainable, and if a first step with something to learn leaves the adapter as it was.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        parts: CausalParts,
        stage: GrpoStage,
        sampler: SamplerSpec,
        steps: PlannedSteps[PromptSteps],
        validation: Sequence[Prompt],
        rewards: Rewards,
        seed: int,
        log_row: Callable[[Row], None],
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(loaded.model, parts, stage, steps, steps.batches.digest(steps.plan), log_row, ranks)
        self.loaded, self.stage, self.sampler, self.validation = loaded, stage, sampler, tuple(validation)
        self.drawer = Drawer(loaded, stage, sampler, steps.batches.prompts, rewards, seed, ranks)
        self.reference = {name: p.detach().clone() for name, p in self.trained.items()}
        bucket = stage.bucket if loaded.model.dtype.itemsize == 2 else 1  # a new shape costs only where one is compiled
        self.sharing = SharedPrompts(loaded.model, parts.states, bucket)
        self.moved = False
        self.warned = False

    def on_train_start(self) -> None:
        """Dropout is off throughout: the answers were drawn without. Then the validation before the first step."""
        super().on_train_start()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        if self.steps.done == 0:
            self._validate(0)

    def training_step(self, batch: StepPrompts, batch_idx: int) -> None:
        """Draws, judges, and takes ``stage.updates`` optimiser steps; rows, and validation if due."""
        started = time.perf_counter()
        first, judged = self.drawer.groups(batch)
        rolled = time.perf_counter()
        size = step_size(judged, self.sampler.max_new_tokens)
        parts = [part.to(self.device) for part in self._cut(judged)]
        live = not all(judged.dead)
        with one_function(self.model):
            old, reference = self._before(parts)
            sums = [self._update(batch.step, parts, old, reference, size, live=live) for _ in range(self.stage.updates)]
        self._warn_of_distance(sums[0])
        self.steps.done = batch.step + 1
        row = step_row(first, judged, sums, size)
        seconds = {"rollout_s": round(rolled - started, 3), "learn_s": round(time.perf_counter() - rolled, 3)}
        epoch = self.steps.plan.epochs[batch.step]
        self.log_row({"step": batch.step + 1, "epoch": epoch, **row, **seconds})
        if self.steps.done % self.stage.validate_every == 0 or self.steps.done == len(self.steps):
            self._validate(self.steps.done)

    def _cut(self, judged: Judged) -> list[Micro]:
        """The step's micro-batches; ``bnpo`` means those of ``micros``, since it depends on the cut."""
        if self.stage.loss.name != "bnpo" and self.sharing.fits(max(len(r.ids) for r in judged.rollouts)):
            return packs(judged, self.stage, pad_id=self.loaded.pad_id, ranks=self.ranks)
        return micros(judged, self.stage, context=self.loaded.context, pad_id=self.loaded.pad_id, ranks=self.ranks)

    def _before(self, parts: Sequence[Micro]) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """The log-probabilities of each part under the policy before the first of several updates, and under the
        reference; None where they are not needed."""
        old: list[Tensor | None] = [None] * len(parts)
        reference: list[Tensor | None] = [None] * len(parts)
        if self.stage.updates > 1:
            with torch.no_grad():
                old = [self._logp(part).logp for part in parts]
        if self.stage.loss.beta > 0:
            with torch.no_grad(), self._as_reference():
                reference = [self._logp(part).logp for part in parts]
        return old, reference

    def _update(
        self,
        step: int,
        parts: Sequence[Micro],
        old: Sequence[Tensor | None],
        reference: Sequence[Tensor | None],
        size: StepSize,
        *,
        live: bool,
    ) -> StepSums:
        """One optimiser step over the parts; ``live`` says that some group has something to say."""
        optimizer, rate = self.begin_step(step)
        sums = StepSums(lr=rate, kl=0.0 if self.stage.loss.beta > 0 else None)
        for part, before, ref in zip(parts, old, reference, strict=True):
            found = self._logp(part)
            taken = policy_loss(
                found.logp,
                found.logp.detach() if before is None else before,
                ref,
                part.advantages,
                part.mask,
                self.stage.loss,
                size,
            )
            self.manual_backward(taken.loss)
            sums.add(taken, found, part)
        sums = StepSums.over(self.ranks.everyones(sums))
        sums.grad_norm = self.clip_gradients_of(step, sums.loss, "")
        unmoved = tensors_digest(self.trained) if live and not self.moved else None
        optimizer.step()
        if unmoved is not None:
            self._require_moved(unmoved, sums)
        return sums

    def _require_moved(self, before: str, sums: StepSums) -> None:
        if tensors_digest(self.trained) == before:
            raise ModelError(
                f"the adapter is what it was after a step with a gradient of norm {sums.grad_norm:.3g} at "
                f"stage.lr={self.stage.lr}: the rate is too small for its dtype, or no gradient reaches it"
            )
        self.moved = True

    def _logp(self, part: Micro) -> TokenLogp:
        shared = self.sharing.fits(part.ids.shape[1])
        return token_logp(
            self.sharing.states(part.ids, part.mask) if shared else self.parts.states(part.ids),
            part.ids,
            part.mask,
            self.parts.head,
            temperature=self.sampler.temperature,
            chunk=self.parts.chunk,
        )

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        """The reference's tensors in the policy's place."""
        own = {name: p.data for name, p in self.trained.items()}
        try:
            self._put(self.reference)
            yield
        finally:
            self._put(own)

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, p in self.trained.items():
            p.data = tensors[name]

    def _warn_of_distance(self, sums: StepSums) -> None:
        far = FAR if self.loaded.model.dtype.itemsize >= 4 else FAR_IN_HALF
        if not self.warned and sums.tokens and sums.distance / sums.tokens > far:
            self.warned = True
            log.warning(
                "engine and trainer disagree by %.2g nats a token (more than %.0e): the answers are not quite samples "
                "of the policy that learns from them",
                sums.distance / sums.tokens,
                far,
            )

    def _validate(self, step: int) -> None:
        """One answer to each prompt held out, always from the same streams: rewards, and KL to the reference."""
        if not self.validation:
            return
        rollouts = self.drawer.one_each(self.validation)
        cut = plain_micros(rollouts, self.stage, pad_id=self.loaded.pad_id)
        kl, tokens = 0.0, 0.0
        with frozen(self.model):
            for part in (cut[i].to(self.device) for i in self.ranks.mine([len(some.ids) for some in cut])):
                policy = self._logp(part).logp
                with self._as_reference():
                    away = self._logp(part).logp - policy
                kl += float(((away.exp() - away - 1) * part.mask).sum())
                tokens += int(part.mask.sum())
        kl, tokens = self.ranks.total(kl, tokens)
        if not math.isfinite(kl):
            raise ModelError(f"KL to the reference {kl} after {step} steps; lower stage.lr={self.stage.lr}")
        found = answer_figures(rollouts, self.drawer.rewards, self.ranks)
        row: dict[str, Any] = {f"validation_{name}": value for name, value in found.items()}
        self.log_row({"step": step, **row, "validation_kl": kl / max(tokens, 1)})
