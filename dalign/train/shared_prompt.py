"""The states of answers to shared prompts, each prompt passed once for all its answers, padding left out.

The prompt's keys and values get gradients from all its answers; states and gradients are those of one row an answer,
up to rounding. On a CPU alone: elsewhere one row an answer is what the kernels are made for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dalign.cache_layers import layers_for
from dalign.joined import can_join
from dalign.sample.cache import BlockLayer
from dalign.train.shared_attention import Family, shared_prompts

CLOSE = 1e-4  # of the largest state or logit, in float32


class Packed(NamedTuple):
    """One row of ids (1, N) with positions (1, N) and families; ``at`` (B, T): where each id of the rows went, 0 for
    padding."""

    ids: Tensor
    positions: Tensor
    families: tuple[Family, ...]
    at: Tensor


def packed(ids_BT: Tensor, starts: Sequence[int], lengths: Sequence[int], *, bucket: int = 1) -> Packed:
    """Rows ``ids[b, :lengths[b]]`` whose prompts are ``ids[b, :starts[b]]``: neighbours with equal prompts share
    theirs. The row is filled up to a multiple of ``bucket``, so that few shapes occur."""
    rows = ids_BT.tolist()
    ids: list[int] = []
    positions: list[int] = []
    families: list[Family] = []
    at_BT = torch.zeros(ids_BT.shape, dtype=torch.long)
    for prompt, family in groupby(range(len(rows)), key=lambda b: rows[b][: starts[b]]):
        first, answers = len(ids), []
        ids += prompt
        positions += range(len(prompt))
        for b in family:
            at_BT[b, : len(prompt)] = torch.arange(first, first + len(prompt))
            at_BT[b, len(prompt) : lengths[b]] = torch.arange(len(ids), len(ids) + lengths[b] - len(prompt))
            ids += rows[b][len(prompt) : lengths[b]]
            positions += range(len(prompt), lengths[b])
            answers.append(lengths[b] - len(prompt))
        families.append(Family(first, len(prompt), tuple(answers)))
    filling = -len(ids) % bucket
    ids, positions = ids + [ids[0]] * filling, positions + [0] * filling
    row, place = (torch.tensor([values], device=ids_BT.device) for values in (ids, positions))
    return Packed(row, place, tuple(families), at_BT.to(ids_BT.device))


class SharedPrompts:
    """``states`` of rows with shared prompts, by ``plain``, which maps ids (B, T) and ``position_ids`` to (B, T, D)."""

    def __init__(self, model: Any, plain: Callable[..., Tensor], bucket: int = 1) -> None:
        self.model, self.plain, self.bucket = model, plain, bucket
        self.config = model.config.get_text_config()
        layers = layers_for(self.config, BlockLayer)
        self.window = min((layer.window for layer in layers or () if layer.window is not None), default=None)
        self.able = layers is not None and can_join(model) and self._agrees()

    def fits(self, longest: int) -> bool:
        """Whether rows of up to ``longest`` tokens can share: attention sees them whole, nothing is recomputed (that
        would be outside of ``states``)."""
        recomputes = any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())
        return self.able and (self.window is None or longest <= self.window) and not recomputes

    def states(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, D), where ``mask`` is 1 at completion tokens; of positions behind a row's last token anything."""
        t = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
        starts, lengths = mask_BT.int().argmax(1).tolist(), (mask_BT * t).amax(1).tolist()
        row = packed(ids_BT, starts, lengths, bucket=self.bucket)
        with shared_prompts(self.config, row.families):
            found_TD = self.plain(row.ids, position_ids=row.positions)[0]
        return found_TD[row.at]

    def _agrees(self) -> bool:
        """Whether both ways agree on a few ids; a model may position or mask in ways of its own."""
        ids_BT = torch.arange(1, 7, device=self.model.device).expand(2, 6).clone()
        ids_BT[1, 4:] = 1
        mask_BT = torch.zeros(2, 6, dtype=torch.bool, device=ids_BT.device)
        mask_BT[:, 3:] = True
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                whole, apart = self.plain(ids_BT).float(), self.states(ids_BT, mask_BT).float()
        finally:
            self.model.train(was_training)
        close = CLOSE if self.model.dtype.itemsize >= 4 else 3e-2
        return bool((whole - apart).abs().max() <= close * whole.abs().max())
