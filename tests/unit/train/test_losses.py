"""The loss by hand, blind to the prompt, and equal however it is cut into chunks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dalign.train.losses import completion_mask, completion_sums


def test_the_mask_covers_completions_of_right_padded_rows() -> None:
    mask = completion_mask(torch.tensor([2, 1]), torch.tensor([4, 2]), 5)
    assert mask.tolist() == [[False, False, True, True, False], [False, True, False, False, False]]


def test_the_loss_by_hand() -> None:
    """Two tokens, logits (0, ln 3): p = 1/4, 3/4. Row one predicts 1 then 0, row two predicts 1."""
    logits = torch.tensor([0.0, math.log(3)]).expand(2, 3, 2)
    ids = torch.tensor([[0, 1, 0], [0, 1, 0]])
    mask = torch.tensor([[False, True, True], [False, True, False]])
    found = completion_sums(logits, ids, mask, nn.Identity(), chunk=100)
    assert float(found.loss) == pytest.approx(2 * math.log(4 / 3) + math.log(4))
    assert int(found.correct) == 2
    assert found.tokens == 3


def test_a_token_is_predicted_from_the_state_before_it_and_from_no_other() -> None:
    torch.manual_seed(0)
    states = torch.randn(1, 6, 4, requires_grad=True)
    mask = torch.tensor([[False, False, False, True, True, False]])
    found = completion_sums(states, torch.tensor([[0, 1, 2, 0, 1, 2]]), mask, nn.Linear(4, 3), chunk=100)
    found.loss.backward()
    assert states.grad is not None
    assert states.grad.abs().sum(-1)[0].gt(0).tolist() == [False, False, True, True, False, False]


def test_prompt_and_padding_may_be_anything_at_all() -> None:
    torch.manual_seed(0)
    states, head = torch.randn(1, 6, 4), nn.Linear(4, 3)
    ids, mask = torch.tensor([[0, 1, 2, 0, 1, 2]]), torch.tensor([[False, False, False, True, True, False]])
    clean = completion_sums(states, ids, mask, head, chunk=100)
    poisoned = states.clone()
    poisoned[:, [0, 1, 4, 5]] = float("nan")
    found = completion_sums(poisoned, ids, mask, head, chunk=100)
    assert torch.equal(found.loss, clean.loss)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_chunks_change_neither_sums_nor_gradients(chunk: int, learns: bool) -> None:
    torch.manual_seed(0)
    head, calls = nn.Linear(4, 5).double().requires_grad_(learns), []
    head.register_forward_hook(lambda module, args, out: calls.append(len(out)))
    ids, mask = torch.randint(0, 5, (3, 8)), torch.rand(3, 8) > 0.4
    mask[:, 0] = False
    results = []
    for size in (10_000, chunk):
        states = torch.randn(3, 8, 4, dtype=torch.double, generator=torch.Generator().manual_seed(1))
        states.requires_grad_()
        head.zero_grad()
        calls.clear()
        found = completion_sums(states, ids, mask, head, chunk=size)
        (found.loss / 7).backward()
        results.append((found.loss, found.correct, states.grad, *(p.grad.clone() for p in head.parameters() if learns)))
    assert max(calls) <= chunk
    asked, *calls = calls
    assert asked == 1  # whether the head learns; the logits of a frozen one are made once
    assert len(calls) == math.ceil(found.tokens / chunk) * (2 if learns else 1)
    for whole, cut in zip(*results, strict=True):
        torch.testing.assert_close(whole, cut, rtol=1e-12, atol=1e-12)


def test_a_head_learns_though_it_names_no_parameter() -> None:
    """As under peft's trainable tokens, where the head borrows its rows from the embeddings' layer."""
    weight = torch.randn(4, 5, generator=torch.Generator().manual_seed(2)).requires_grad_()
    states = torch.randn(1, 9, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mask = torch.arange(9)[None] > 2
    grads = []
    for chunk in (10_000, 2):
        found = completion_sums(states, torch.arange(9)[None] % 5, mask, lambda s: s @ weight, chunk=chunk)
        grads.append(torch.autograd.grad(found.loss, (states, weight)))
    for whole, cut in zip(*grads, strict=True):
        torch.testing.assert_close(whole, cut)


def test_half_precision_logits_are_summed_in_float32() -> None:
    states = torch.randn(1, 400, 8, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(400)[None] % 8
    mask = torch.ones(1, 400, dtype=torch.bool)
    mask[:, 0] = False
    found = completion_sums(states, ids, mask, nn.Identity(), chunk=50)
    exact = nn.functional.cross_entropy(states[0, :-1].double(), ids[0, 1:], reduction="sum")
    assert found.loss.dtype == torch.float32
    assert float(found.loss) == pytest.approx(float(exact), rel=1e-5)


def test_the_first_position_cannot_be_learnt_and_an_empty_mask_costs_nothing() -> None:
    states, ids = torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="position 0"):
        completion_sums(states, ids, torch.ones(1, 2, dtype=torch.bool), nn.Identity(), chunk=1)
    empty = completion_sums(states, ids, torch.zeros(1, 2, dtype=torch.bool), nn.Identity(), chunk=1)
    assert (float(empty.loss), empty.tokens) == (0.0, 0)
