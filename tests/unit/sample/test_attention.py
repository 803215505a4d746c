"""Attention by own columns: the runs it reads, and the results of transformers' own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dalign.sample import attention
from dalign.sample.attention import SPAN, attend, own_columns, runs_of


def test_runs_by_hand() -> None:
    assert runs_of([300, 280, 290, 40, 30]) == ((0, 3, 300), (3, 5, 40))
    assert runs_of([300, 0, 290, 0]) == ((0, 4, 300),)
    assert runs_of([0, 300, 20, 0]) == ((0, 2, 300), (2, 4, 20))
    assert runs_of([0, 0]) == ((0, 2, 1),)


@given(st.lists(st.integers(0, 3 * SPAN), min_size=1, max_size=40))
def test_every_row_reads_its_columns_once_and_no_run_is_wide(columns: list[int]) -> None:
    runs = runs_of(columns)
    assert [row for first, last, _ in runs for row in range(first, last)] == list(range(len(columns)))
    for first, last, most in runs:
        wanted = [c for c in columns[first:last] if c]
        assert most == max(wanted, default=1)
        assert not wanted or most - min(wanted) <= SPAN


@pytest.mark.parametrize("window", [None, 150])
@pytest.mark.parametrize("heads", [2, 6])
def test_the_result_is_that_of_whole_columns(window: int | None, heads: int) -> None:
    """Rows of 400, 380, 150 and 3 tokens in 400 columns; a sliding layer holds only the last of them."""
    torch.manual_seed(0)
    own = [400, 380, 150, 3]
    held = min(window or 400, 400)
    query, key, value = torch.randn(4, heads, 1, 8), torch.randn(4, 2, held, 8), torch.randn(4, 2, held, 8)
    mask = (torch.arange(400) >= 400 - torch.tensor(own)[:, None])[:, None, None, -held:]
    module = SimpleNamespace(num_key_value_groups=heads // 2, is_causal=True)
    whole, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    token = attention._runs.set(runs_of(own))
    found, _ = attend(module, query, key, value, mask, scaling=0.3)
    attention._runs.reset(token)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
    # Padding is not read at all: NaN there would reach any result that touched it.
    key[3, :, : held - 3 - SPAN] = torch.nan
    token = attention._runs.set(((0, 3, 400), (3, 4, 3)))
    assert not attend(module, query, key, value, mask, scaling=0.3)[0].isnan().any()
    attention._runs.reset(token)


def test_the_model_is_as_before_afterwards_and_others_are_left_alone() -> None:
    model = tiny_models.tiny_model("llama")
    model.config._attn_implementation = "sdpa"
    with own_columns(model, [3]):
        assert model.config._attn_implementation == attention.NAME
    assert model.config._attn_implementation == "sdpa"
    model.config._attn_implementation = "eager"
    with own_columns(model, [3]):
        assert model.config._attn_implementation == "eager"
