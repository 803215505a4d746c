"""Attention by own columns: the runs it reads, and the results of transformers' own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from dalign.sample import attention as room
from dalign.sample.attention import SPAN, attend, own_columns, spans_of
from dalign.sample.cache import BlockCache, BlockLayer


def test_runs_by_hand() -> None:
    assert spans_of([300, 280, 290, 40, 30]) == ((0, 3, 300), (3, 5, 40))
    assert spans_of([300, 0, 290, 0]) == ((0, 4, 300),)
    assert spans_of([0, 300, 20, 0]) == ((0, 2, 300), (2, 4, 20))
    assert spans_of([0, 0]) == ((0, 2, 1),)


@given(st.lists(st.integers(0, 3 * SPAN), min_size=1, max_size=40))
def test_every_row_reads_its_columns_once_and_no_run_is_wide(columns: list[int]) -> None:
    runs = spans_of(columns)
    assert [row for first, last, _ in runs for row in range(first, last)] == list(range(len(columns)))
    for first, last, most in runs:
        wanted = [c for c in columns[first:last] if c]
        assert most == max(wanted, default=1)
        assert not wanted or most - min(wanted) <= SPAN


MODULE = SimpleNamespace(layer_idx=0, num_key_value_groups=3, is_causal=True)


def model_of(attention: str = "sdpa", device: str = "cpu") -> Any:
    config = SimpleNamespace(_attn_implementation=attention)
    text = SimpleNamespace(get_text_config=lambda: config)
    return SimpleNamespace(device=torch.device(device), dtype=torch.float32, config=text)


def filled(window: int | None, rows: int, columns: int) -> tuple[BlockCache, Tensor, Tensor]:
    """A cache of one layer with ``columns`` columns written, and what it shows with one more (2 heads, width 8)."""
    layer = BlockLayer(window)
    layer.update(torch.randn(rows, 2, columns, 8), torch.randn(rows, 2, columns, 8))
    keys, values = layer.update(torch.randn(rows, 2, 1, 8), torch.randn(rows, 2, 1, 8))
    return BlockCache(layers=[layer]), keys, values


@pytest.mark.parametrize("window", [None, 150])
def test_the_result_is_that_of_whole_columns(window: int | None) -> None:
    """Rows of 400, 380, 150 and 3 tokens in 400 columns; a sliding layer holds only the last of them."""
    torch.manual_seed(0)
    own = [400, 380, 150, 3]
    cache, key, value = filled(window, 4, 399)
    held, query = key.shape[2], torch.randn(4, 6, 1, 8)
    mask = (torch.arange(400) >= 400 - torch.tensor(own)[:, None])[:, None, None, -held:]
    whole, _ = sdpa_attention_forward(MODULE, query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    with own_columns(model_of(), cache, own, [1] * 4):
        found, _ = attend(MODULE, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
    # Padding is not read at all: NaN there would reach any result that touched it.
    key[3, :, : held - 3 - SPAN] = torch.nan
    with own_columns(model_of(), cache, own, [1] * 4):
        assert not attend(MODULE, query, key, value, mask, scaling=0.3)[0].isnan().any()


@pytest.mark.parametrize("steps", [1, 5])
def test_samples_that_share_a_prompt_read_what_each_would_read_alone(steps: int) -> None:
    """Prompts of 7 and 2 tokens, the shorter behind padding of NaN, three and two samples; one that has ended."""
    torch.manual_seed(0)
    layer, rows, lengths = BlockLayer(), [0, 0, 0, 1, 1], [7, 2]
    keys, values = torch.randn(2, 2, 2, 7, 8)
    keys[1, :, :5] = values[1, :, :5] = torch.nan
    layer.update(keys, values)
    cache = BlockCache(layers=[layer])
    cache.begin(rows, lengths, share=True)
    assert cache.prompts == ((0, 3), (3, 5))
    for _ in range(steps):
        key, value = layer.update(*torch.randn(2, 5, 2, 1, 8))
    query = torch.randn(5, 6, 1, 8)
    with own_columns(model_of(), cache, [steps + 7] * 5, [steps, steps, 0, steps, steps]):
        found, _ = attend(MODULE, query, key, value, None, scaling=0.3)
    for row, prompt in enumerate(rows):
        columns = [
            torch.cat([p[prompt, :, 7 - lengths[prompt] :], o[row]], 1) for p, o in ((keys, key), (values, value))
        ]
        wanted = scaled_dot_product_attention(
            query[row : row + 1], *(c[None] for c in columns), scale=0.3, enable_gqa=True
        )
        torch.testing.assert_close(found[row, 0], wanted[0, :, 0], atol=1e-6, rtol=0)


def test_rows_that_came_later_do_not_see_the_columns_before_they_came() -> None:
    """Rows behind the same prompt, three tokens and one token after it: the later one's gap would change its result."""
    torch.manual_seed(0)
    cache, other = (BlockCache(layers=[BlockLayer()]) for _ in range(2))
    prompt = torch.randn(2, 1, 2, 4, 8)
    for one in (cache, other):
        one.layers[0].update(*prompt)
        one.begin([0], [4], share=True)
    for _ in range(2):
        cache.layers[0].update(*torch.randn(2, 1, 2, 1, 8))
    cache.repack(torch.tensor([0]), 6, 2, other)
    assert cache.prompts == ((0, 1), (1, 2))
    key, value = cache.layers[0].update(*torch.randn(2, 2, 2, 1, 8))
    query = torch.randn(2, 6, 1, 8)
    with own_columns(model_of(), cache, [7, 5], [3, 1]):
        found, _ = attend(MODULE, query, key, value, None, scaling=0.3)
    columns = [torch.cat([p[0], o[1, :, -1:]], 1)[None] for p, o in zip(prompt, (key, value), strict=True)]
    wanted = scaled_dot_product_attention(query[1:], *columns, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(found[1, 0], wanted[0, :, 0], atol=1e-6, rtol=0)


def test_keys_and_values_of_unequal_width_are_not_shared() -> None:
    layer = BlockLayer()
    layer.update(torch.randn(1, 2, 4, 8), torch.randn(1, 2, 4, 6))
    cache = BlockCache(layers=[layer])
    cache.begin([0, 0], [4], share=True)
    assert cache.prompts == ()
    assert layer.keys.shape[0] == 2


def test_the_model_is_as_before_afterwards_and_others_are_left_alone() -> None:
    cache, _, _ = filled(None, 1, 2)
    for attention, device, inside in (("sdpa", "cpu", room.NAME), ("eager", "cpu", "eager"), ("sdpa", "meta", "sdpa")):
        model = model_of(attention, device)
        with own_columns(model, cache, [3], [1]):
            assert model.config.get_text_config()._attn_implementation == inside
        assert model.config.get_text_config()._attn_implementation == attention
