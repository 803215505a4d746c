"""A model that is only read: evaluation mode and no gradients inside, every module's own mode back afterwards.

A model fresh from peft has modules in both modes, and responses generated in training mode are not samples of the
policy (trl #3000, #3683), so the modes are kept one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Inside: ``eval()`` and no gradients for all ``models``. On exit each module trains again that did before."""
    training = [module for model in set(models) for module in model.modules() if module.training]
    try:
        if training:  # ``eval()`` walks every module again, which small models notice
            for model in set(models):
                model.eval()
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
