"""A prompt passed once for all its answers: states and all gradients are those of one row an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dalign.train.shared_attention import Family
from dalign.train.shared_prompt import SharedPrompts, packed

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
    "heads of their own": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, sliding_window=32)
    ),
}
STARTS, LENGTHS = [7, 7, 7, 4, 4, 7], [20, 12, 12, 9, 5, 8]  # three of one prompt, two of another, one of the first


def rows() -> tuple[Tensor, Tensor]:
    """Ids (6, 20) and their masks of completions."""
    ids = torch.randint(1, 40, (6, 20), generator=torch.Generator().manual_seed(1))
    ids[:3, :7] = ids[5, :7] = ids[0, :7]
    ids[3:5, :4] = ids[3, :4]
    t = torch.arange(20)
    return ids, (t >= torch.tensor(STARTS)[:, None]) & (t < torch.tensor(LENGTHS)[:, None])


def sharing(model: Any, bucket: int = 1) -> SharedPrompts:
    def plain(ids: Tensor, **positions: Tensor) -> Tensor:
        found: Tensor = model.base_model(input_ids=ids, use_cache=False, **positions).last_hidden_state
        return found

    return SharedPrompts(model, plain, bucket)


@pytest.mark.parametrize("bucket", [1, 16])
@pytest.mark.parametrize("name", MODELS)
def test_states_and_gradients_are_those_of_a_row_an_answer(name: str, bucket: int) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    shared = sharing(model, bucket)
    assert shared.fits(20)
    ids, mask = rows()
    used = mask.roll(-1, 1)  # the states that predict completion tokens
    weight = torch.randn(int(used.sum()), 32)
    found = []
    for states in (lambda: shared.plain(ids), lambda: shared.states(ids, mask)):
        model.zero_grad()
        made = states()[used]
        (made * weight).sum().backward()
        grads = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
        found.append((made.detach(), grads))
    (states, grads), (other_states, other_grads) = found
    torch.testing.assert_close(other_states, states, rtol=0, atol=1e-6 * float(states.abs().max()))
    assert grads.keys() == other_grads.keys()
    for key, grad in grads.items():
        torch.testing.assert_close(other_grads[key], grad, rtol=0, atol=2e-6 * float(grad.abs().max()), msg=key)
    assert model.config._attn_implementation == "sdpa"


def test_a_prompt_stands_once_before_its_answers() -> None:
    ids, _ = rows()
    row = packed(ids, STARTS, LENGTHS, bucket=8)
    assert row.families == (Family(0, 7, (13, 5, 5)), Family(30, 4, (5, 1)), Family(40, 7, (1,)))
    assert row.ids.shape == (1, 48)
    for b, length in enumerate(LENGTHS):
        at = row.at[b, :length]
        assert torch.equal(row.ids[0, at], ids[b, :length])
        assert row.positions[0, at].tolist() == list(range(length))


def test_what_cannot_share_is_told() -> None:
    """A window shorter than the rows, recomputation, attention of another kind, and positions that are not told."""
    assert not sharing(MODELS["gemma3"]()).fits(33)
    model = MODELS["llama"]()
    shared = sharing(model)
    model.gradient_checkpointing_enable()
    assert not shared.fits(20)
    model.gradient_checkpointing_disable()
    assert shared.fits(20)
    eager = LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation="eager"))
    assert not sharing(eager).fits(20)
    deaf = SharedPrompts(model, lambda ids, **_: model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
    assert not deaf.fits(20)
