"""A student for attacks to be made on."""

from __future__ import annotations

import pytest
import torch

from dalign.models import load_model
from dalign.specs.model import ModelSpec


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The overrides of a student: the base under a small random LoRA, which answers much as the base does."""
    folder = tmp_path_factory.mktemp("student") / "adapter"
    loaded = load_model(ModelSpec(name="toy", id="toy", dtype="float32", device="cpu"), new_lora=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn_like(weight) * 0.01)
    loaded.save_adapter(folder)
    return (f"inputs.adapter={folder}", "model.think.where=none")
