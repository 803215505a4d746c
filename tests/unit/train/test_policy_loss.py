"""The policy-gradient losses: values and gradients of TRL 1.16.0 (float64), and independence of how a step is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dalign.specs.grpo import LossSpec
from dalign.train.policy_loss import PolicyLoss, StepSize, policy_loss

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_losses.json").read_text())
SEQUENCE: dict[str, Any] = {"name": "gspo"}
SPECS: dict[str, dict[str, Any]] = {
    "grpo": {"name": "grpo"},
    "bnpo": {"name": "bnpo"},
    "dr_grpo": {"name": "dr_grpo"},
    "dapo": {"name": "dapo"},
    "cispo": {"name": "cispo", "cispo_max": 1.5},
    "gspo (level=sequence, loss grpo, eps 3e-4/4e-4)": {**SEQUENCE, "clip_low": 3e-4, "clip_high": 4e-4},
    "gspo (level=sequence, loss grpo, eps .2)": SEQUENCE,
    "dapo clip-higher .2/.28": {"name": "dapo", "clip_high": 0.28},
    "dapo onpolicy": {"name": "dapo"},
    "grpo onpolicy": {"name": "grpo"},
    "dapo onpolicy beta .1 k3": {"name": "dapo", "beta": 0.1, "kl": "k3"},
    "dapo onpolicy beta .1 k3*ratio": {"name": "dapo", "beta": 0.1, "kl": "ratio_k3"},
    "dapo beta .1 k3": {"name": "dapo", "beta": 0.1, "kl": "k3"},
    "dapo beta .1 k3*ratio": {"name": "dapo", "beta": 0.1, "kl": "ratio_k3"},
}


def tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


MASK = tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
ADVANTAGES = torch.tensor([1, -0.5, 0.25], dtype=torch.float64)
OLD = tensor([[-1, -2, -0.5, -1.5], [-0.7, -1.1, 0, 0], [-2.2, -0.3, -1.4, 0]])
NEW = OLD + tensor([[0.1, -0.3, 0.5, 0], [-0.4, 0.2, 0, 0], [0.05, 0.3, -0.6, 0]])
REFERENCE = tensor([[-1.2, -1.9, -0.4, -1.6], [-0.9, -1, 0, 0], [-2, -0.5, -1.1, 0]])
WHOLE = StepSize(rows=3, tokens=9, max_tokens=8)


def spec_of(**options: Any) -> LossSpec:
    return LossSpec(**{"clip_low": 0.2, "clip_high": 0.2, **options})


def loss_and_gradient(spec: LossSpec, *, on_policy: bool = False) -> tuple[PolicyLoss, Tensor]:
    new = NEW.clone().requires_grad_()
    old = new.detach() if on_policy else OLD
    found = policy_loss(new, old, REFERENCE if spec.beta else None, ADVANTAGES, MASK, spec, WHOLE)
    (gradient,) = torch.autograd.grad(found.loss, new)
    return found, gradient


def test_there_is_a_golden_value_for_every_variant() -> None:
    assert SPECS.keys() == GOLDEN.keys()
    assert {spec["name"] for spec in SPECS.values()} == {"grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"}


@pytest.mark.parametrize("case", SPECS)
def test_values_gradients_and_clip_shares_are_those_of_trl(case: str) -> None:
    found, gradient = loss_and_gradient(spec_of(**SPECS[case]), on_policy="onpolicy" in case)
    golden = GOLDEN[case]
    assert found.loss.item() == pytest.approx(golden["loss"], abs=1e-7)
    torch.testing.assert_close(gradient, tensor(golden["grad"]), rtol=0, atol=1e-7)
    measured = golden["metrics"]
    if "kl" in measured:
        assert float(found.kl) / 9 == pytest.approx(measured["kl"], abs=1e-6)
    if "cispo_clip_ratio" in measured:
        assert float(found.clipped_high) / 9 == pytest.approx(measured["cispo_clip_ratio"], abs=1e-6)
    elif "gspo" not in case:  # TRL counts a sequence's ratio once, we count its tokens
        for name, count in (("low", found.clipped_low), ("high", found.clipped_high)):
            assert float(count) / 9 == pytest.approx(measured[f"clip_ratio/{name}_mean"], abs=1e-6)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "dapo", "cispo", "gspo"])
def test_how_a_step_is_cut_changes_neither_loss_nor_gradient(name: str) -> None:
    """Row by row, by processes that average their gradients, or at once (trl #3021, #5619, ms-swift #10117)."""
    spec = spec_of(name=name, beta=0.1)
    whole, gradient = loss_and_gradient(spec)
    for cuts in ([[0], [1], [2]], [[0, 2], [1]]):
        new = NEW.clone().requires_grad_()
        parts = [
            policy_loss(new[rows], OLD[rows], REFERENCE[rows], ADVANTAGES[rows], MASK[rows], spec, WHOLE).loss
            for rows in cuts
        ]
        (cut,) = torch.autograd.grad(torch.stack(parts).sum(), new)
        assert float(sum(parts)) == pytest.approx(whole.loss.item(), abs=1e-12)
        torch.testing.assert_close(cut, gradient, rtol=0, atol=1e-12)


def test_bnpo_hangs_on_the_cut_as_it_is_defined() -> None:
    spec = spec_of(name="bnpo")
    whole, _ = loss_and_gradient(spec)
    parts = [
        policy_loss(NEW[i : i + 1], OLD[i : i + 1], None, ADVANTAGES[i : i + 1], MASK[i : i + 1], spec, WHOLE).loss
        for i in range(3)
    ]
    assert abs(float(sum(parts)) - whole.loss.item()) > 0.05


@pytest.mark.parametrize("name", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"])
def test_masked_tokens_count_for_nothing_even_as_nan(name: str) -> None:
    """trl #6369: masked tokens in the divisor."""
    spec = spec_of(name=name, beta=0.1)
    whole, gradient = loss_and_gradient(spec)
    new = NEW.masked_fill(MASK == 0, torch.nan).requires_grad_()
    old, ref = OLD.masked_fill(MASK == 0, torch.nan), REFERENCE.masked_fill(MASK == 0, torch.inf)
    found = policy_loss(new, old, ref, ADVANTAGES, MASK, spec, WHOLE)
    (masked,) = torch.autograd.grad(found.loss, new)
    assert found.loss.item() == pytest.approx(whole.loss.item(), abs=1e-12)
    torch.testing.assert_close(masked, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "gspo"])
def test_a_batch_all_masked_is_a_loss_of_zero_with_zero_gradients(name: str) -> None:
    new = NEW.clone().requires_grad_()
    none = torch.zeros_like(MASK)
    found = policy_loss(new, OLD, None, ADVANTAGES, none, spec_of(name=name), StepSize(0, 0, 8))
    (gradient,) = torch.autograd.grad(found.loss, new)
    assert found.loss.item() == 0.0
    assert not gradient.any()


def test_advantages_that_sum_to_zero_give_a_loss_of_zero_and_a_gradient() -> None:
    """A loss near 0 is no fault: on policy, with equal lengths, its value is minus the mean advantage."""
    new = NEW[:2].clone().requires_grad_()
    both = torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = policy_loss(new, new.detach(), None, both, torch.ones(2, 4), spec_of(), StepSize(2, 8, 8))
    (gradient,) = torch.autograd.grad(found.loss, new)
    assert found.loss.item() == pytest.approx(0.0, abs=1e-15)
    torch.testing.assert_close(gradient, -both[:, None].expand(2, 4) / 8)


def test_the_estimates_of_the_kl_differ_in_gradient_and_the_weighted_one_is_the_kls() -> None:
    """On a distribution over six tokens, in exact expectation: ratio_k3 has the gradient of KL(policy || reference), k3
    that of the other KL (arXiv 2512.21852)."""
    torch.manual_seed(0)
    theta, other = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    ref = other.log_softmax(-1)

    def expected(kl: str) -> Tensor:
        logits = theta.clone().requires_grad_()
        logp = logits.log_softmax(-1)
        p = logp.detach().exp()
        rows = logp[:, None]  # each token as a completion of its own, weighted by its probability
        total = torch.zeros((), dtype=torch.float64)
        for i in range(6):
            one = policy_loss(
                rows[i : i + 1],
                rows[i : i + 1].detach(),
                ref[i : i + 1, None],
                torch.zeros(1, dtype=torch.float64),
                torch.ones(1, 1),
                spec_of(beta=1.0, kl=kl),
                StepSize(1, 1, 1),
            )
            total = total + p[i] * one.loss
        return torch.autograd.grad(total, logits)[0]

    def exact(forward: bool) -> Tensor:
        logits = theta.clone().requires_grad_()
        logp = logits.log_softmax(-1)
        value = (ref.exp() * (ref - logp)).sum() if forward else (logp.exp() * (logp - ref)).sum()
        return torch.autograd.grad(value, logits)[0]

    torch.testing.assert_close(expected("ratio_k3"), exact(forward=False), rtol=0, atol=1e-12)
    torch.testing.assert_close(expected("k3"), exact(forward=True), rtol=0, atol=1e-12)


def test_a_penalty_without_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the reference"):
        policy_loss(NEW, OLD, None, ADVANTAGES, MASK, spec_of(beta=0.1), WHOLE)
