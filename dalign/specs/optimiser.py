"""How an adapter's weights are moved: what every stage that trains one shares."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat

from dalign.specs.base import Spec


class OptimiserSpec(Spec):
    """AdamW at rate ``lr`` after a linear warm-up over a share of the steps, its gradients clipped to norm ``clip``."""

    lr: PositiveFloat = 1.41e-5
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: float = Field(0.0, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    clip: PositiveFloat = 1.0
