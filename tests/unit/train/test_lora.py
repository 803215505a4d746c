"""LoRA layers in the base's precision: peft's mathematics, float32 tensors, and peft's own code wherever it must be."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tiny_models import tiny_model, with_lora
from torch import Tensor, nn

from dalign.train.forward import prepared
from dalign.train.lora import _AdaptedLinear, in_base_precision


def gradients(model: Any) -> dict[str, Tensor]:
    """Of a sum over logits, after one pass."""
    model.zero_grad()
    ids = torch.arange(2, 26).reshape(2, 12)
    model(input_ids=ids).logits.float().logsumexp(-1).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def distance(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Of all gradients together, relative to their size."""
    assert some.keys() == others.keys()
    squares = sum(float((some[name].double() - others[name].double()).square().sum()) for name in some)
    return (squares / sum(float(g.double().square().sum()) for g in others.values())) ** 0.5


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_all_gradients_are_those_of_the_formula(bias: bool) -> None:
    torch.manual_seed(0)
    weight, offset = torch.randn(5, 7).double(), torch.randn(5).double() if bias else None
    x, a, b = (torch.randn(*shape).double().requires_grad_() for shape in ((2, 3, 7), (2, 7), (5, 2)))

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        plain = nn.functional.linear(x, weight, offset)
        return plain + 0.5 * nn.functional.linear(nn.functional.linear(x, a), b)

    def fused(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _AdaptedLinear.apply(x, weight, offset, a, b, 0.5)

    torch.testing.assert_close(fused(x, a, b), formula(x, a, b))
    assert torch.autograd.gradcheck(fused, (x, a, b))


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_gradients_are_as_near_to_the_exact_ones_as_pefts(kind: str) -> None:
    exact = gradients(with_lora(tiny_model(kind, layers=2)))
    half = with_lora(tiny_model(kind, layers=2).bfloat16())
    pefts = gradients(half)
    with in_base_precision(half):
        ours = gradients(half)
    assert all(g.dtype == torch.float32 for g in ours.values())
    assert 0 < distance(ours, pefts) < 0.05
    assert distance(ours, exact) < 1.5 * distance(pefts, exact)
    assert distance(gradients(half), pefts) == 0.0  # peft's again


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_dropout": 0.5}, {"lora_bias": True}])
def test_what_is_not_plain_lora_stays_pefts(options: dict[str, Any]) -> None:
    model = with_lora(tiny_model("qwen2", layers=1).bfloat16(), target_modules=["q_proj", "v_proj"], **options).train()
    results = []
    for context in (nullcontext(), in_base_precision(model)):
        with context:
            torch.manual_seed(5)
            results.append(gradients(model))
    assert distance(*results) == 0.0


def test_a_float32_model_is_trained_by_pefts_own_code() -> None:
    model = with_lora(tiny_model("llama", layers=2))
    pefts = gradients(model)
    with prepared(model, recompute=False):
        assert all(torch.equal(g, pefts[name]) for name, g in gradients(model).items())


def test_an_adapter_that_is_switched_off_is_off() -> None:
    model = with_lora(tiny_model("llama", layers=2).bfloat16())
    ids = torch.arange(2, 12)[None]
    with torch.no_grad(), model.disable_adapter():
        base = model(input_ids=ids).logits
    with torch.no_grad(), in_base_precision(model):
        adapted = model(input_ids=ids).logits
        with model.disable_adapter():
            assert torch.equal(model(input_ids=ids).logits, base)
    assert not torch.equal(adapted, base)
