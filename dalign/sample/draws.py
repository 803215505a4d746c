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
    """The token (B,) at which each row's cumulative probability passes its uniform; one of probability 0 never is."""
    cdf_BV = scores_BV.float().softmax(-1).cumsum(-1)
    total_B = cdf_BV[:, -1]
    below = torch.nextafter(total_B, torch.zeros_like(total_B))
    target_B = torch.minimum(uniforms_B * total_B, below)
    return torch.searchsorted(cdf_BV, target_B.unsqueeze(-1), right=True).squeeze(-1)
