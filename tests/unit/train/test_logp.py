"""Log-probabilities in chunks: the values and gradients of all at once."""

from __future__ import annotations

import pytest
import torch

from dalign.train.logp import token_logp


def test_chunks_change_neither_values_nor_gradients() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11).double()
    ids = torch.randint(0, 11, (3, 9))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, 2:9], mask[1, 5:7] = True, True
    found = []
    for chunk in (100, 2):
        states = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        out = token_logp(states, ids, mask, head, temperature=0.7, chunk=chunk)
        (out.logp * torch.arange(9)).sum().backward()
        found.append((out.logp.detach(), out.entropy, states.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert torch.equal(found[0][0] != 0, mask)
    assert not found[0][1].requires_grad
    assert not found[0][2][2].any()  # a row without completion tokens


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [100, 2])
def test_a_frozen_head_gives_the_same(chunk: int, temperature: float) -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 11).double()
    ids = torch.randint(0, 11, (3, 9))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, 2:9], mask[1, 5:7] = True, True
    found = []
    for learns in (True, False):
        head.requires_grad_(learns)
        states = torch.randn(3, 9, 6, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        out = token_logp(states, ids, mask, head, temperature=temperature, chunk=chunk)
        (out.logp * torch.arange(9)).sum().backward()
        found.append((out.logp.detach(), out.entropy, states.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert found[1][2].any()
    assert not found[1][1].requires_grad


def test_nothing_masked_in_is_all_zeros_and_position_0_is_refused() -> None:
    states, ids = torch.randn(2, 4, 6), torch.zeros(2, 4, dtype=torch.long)
    none = token_logp(states, ids, torch.zeros(2, 4, dtype=torch.bool), torch.nn.Linear(6, 5), temperature=1.0, chunk=8)
    assert not none.logp.any()
    assert not none.entropy.any()
    with pytest.raises(ValueError, match="position 0"):
        token_logp(states, ids, torch.ones(2, 4, dtype=torch.bool), torch.nn.Linear(6, 5), temperature=1.0, chunk=8)
