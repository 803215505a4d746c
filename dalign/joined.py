"""Attention on a CPU over two parts of the columns, joined; and how such a way becomes a model's attention for a while.

Softmax attention over two sets of columns is the mean of the attentions to each, weighted by their sums of
exponentials. So what rows share (a prompt) can be read once for all of them, and neither part needs a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

Run = tuple[int, int]  # first row, behind the last row
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


def flash(
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention (B, H, T, D) and the log of its sum of exponentials, float32 (B, H, T). H is a multiple of K.

    ``mask`` is added to the scores, in the queries' dtype; ``causal`` counts from the first query and column.
    """
    out: tuple[Tensor, Tensor] = _flash(query_BHTD, key_BKSD, value_BKSD, 0.0, causal, attn_mask=mask, scale=scale)
    return out


def join_(out_BHTD: Tensor, lse_BHT: Tensor, other_BHTD: Tensor, other_lse_BHT: Tensor) -> None:
    """Makes of ``out``, in place, the attention over its columns and those of ``other``."""
    share_BHT = torch.sigmoid(other_lse_BHT - lse_BHT)
    out_BHTD.lerp_(other_BHTD, share_BHT.unsqueeze(-1).to(out_BHTD.dtype))


def equal_runs(values: Sequence[int]) -> list[Run]:
    """The longest stretches of equal neighbours."""
    firsts = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]
    return list(pairwise([*firsts, len(values)]))


def can_join(model: Any) -> bool:
    """Whether ``model`` is one for ``flash``: on a CPU, with attention ``sdpa``."""
    return model.device.type == "cpu" and model.config.get_text_config()._attn_implementation == "sdpa"


def register(name: str, attend: Callable[..., tuple[Tensor, None]], no_masks: Callable[[], bool]) -> None:
    """Makes ``name`` an attention for ``config._attn_implementation``.

    Where ``no_masks()`` is true when a pass begins, full attention gets no mask; everything else that of ``sdpa``.
    """

    def mask(*args: Any, local_size: int | None = None, **kwargs: Any) -> Tensor | None:
        if local_size is None and no_masks():
            return None
        made: Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](*args, local_size=local_size, **kwargs)
        return made

    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask)
