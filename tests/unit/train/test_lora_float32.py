"""LoRA over a float32 base with fewer operations: peft's outputs and gradients, and a base that comes back whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import tiny_model, with_lora
from torch import Tensor

from dalign.train import lora_float32
from dalign.train.lora_float32 import merged, one_function

IDS = torch.arange(2, 26).reshape(2, 12)


def model_of() -> Any:
    """A tiny float32 model under LoRA whose B is not 0."""
    torch.manual_seed(0)
    model = with_lora(tiny_model("llama"))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    return model


def outputs(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    logits = model(input_ids=IDS).logits
    logits.logsumexp(-1).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_one_function_is_pefts() -> None:
    model = model_of()
    logits, grads = outputs(model)
    with one_function(model):
        others, other_grads = outputs(model)
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-6 * float(logits.abs().max()))
    assert grads
    assert grads.keys() == other_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=0, atol=3e-6 * float(grad.abs().max()), msg=name)
    assert torch.equal(outputs(model)[0], logits)


@pytest.mark.parametrize("fails", [False, True])
def test_merged_weights_say_the_same_and_the_base_comes_back(fails: bool) -> None:
    model = model_of()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
    try:
        with merged(model), torch.no_grad():
            away = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
            others = model(input_ids=IDS).logits
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert away
    assert all("base_layer.weight" in name for name in away)
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-6 * float(logits.abs().max()))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with torch.no_grad():
        assert torch.equal(model(input_ids=IDS).logits, logits)


def test_nothing_is_merged_where_it_would_stand_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    monkeypatch.setattr(lora_float32, "MOST_BYTES", 1)
    with merged(model):
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_half_precision_is_left_alone() -> None:
    model = model_of().to(torch.bfloat16)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with merged(model), one_function(model):
        assert not any("forward" in vars(module) for module in model.modules())
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
