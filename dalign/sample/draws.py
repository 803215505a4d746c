"""From logits to tokens: the sampler's filters, and inverse-CDF draws from a stream of uniforms that each row owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dalign.specs.sampling import SamplerSpec

BLOCK = 256


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """Float32 uniforms in [0, 1), shape (len(seeds), count); row i is the start of the Philox stream of its seed."""
    streams = [np.random.Generator(np.random.Philox(key=seed)).random(count, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(streams))


def filters(spec: SamplerSpec) -> Any:
    """transformers' processors in the order of its ``generate``; for temperature 0 the repetition penalty alone."""
    chain = LogitsProcessorList()
    if spec.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(spec.repetition_penalty))
    if spec.temperature == 0.0:
        return chain
    if spec.temperature != 1.0:
        chain.append(TemperatureLogitsWarper(spec.temperature))
    if spec.top_k > 0:
        chain.append(TopKLogitsWarper(spec.top_k))
    if spec.top_p < 1.0:
        chain.append(TopPLogitsWarper(spec.top_p))
    if spec.min_p > 0.0:
        chain.append(MinPLogitsWarper(spec.min_p))
    return chain


def pick(scores_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The token (B,) at which each row's cumulative probability passes its uniform; one of probability 0 never is.

    First the block of ``BLOCK`` tokens, then the token within it: less to sum and to round than over the vocabulary.
    """
    p_BV = scores_BV.float().softmax(-1)
    p_BV = torch.nn.functional.pad(p_BV, (0, -p_BV.shape[-1] % BLOCK)) if p_BV.shape[-1] % BLOCK else p_BV
    p_BKJ = p_BV.unflatten(-1, (-1, BLOCK))
    cdf_BK = p_BKJ.sum(-1).cumsum(-1)
    target_B = uniforms_B * cdf_BK[:, -1]
    block_B = _passed(cdf_BK, target_B)
    rows_B = torch.arange(len(p_BV), device=p_BV.device)
    before_B = torch.where(block_B > 0, cdf_BK[rows_B, block_B - 1], 0.0)
    return block_B * BLOCK + _passed(p_BKJ[rows_B, block_B].cumsum(-1), (target_B - before_B).clamp(min=0.0))


def _passed(cdf_BK: Tensor, target_B: Tensor) -> Tensor:
    """The first place (B,) of each row of ``cdf_BK`` above its target, which rounding may not carry past the last."""
    last_B = cdf_BK[:, -1]
    below_B = torch.minimum(target_B, torch.nextafter(last_B, torch.zeros_like(last_B)))
    return torch.searchsorted(cdf_BK, below_B.unsqueeze(-1), right=True).squeeze(-1)
