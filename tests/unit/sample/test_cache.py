"""The block cache shows attention the very columns that transformers' own cache shows it."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from transformers import DynamicCache, MambaConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from dalign.sample import cache
from dalign.sample.cache import BlockLayer, block_cache


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("prompt", [1, 3, 4, 5, 6, 12])
def test_same_columns_as_transformers_own(window: int | None, prompt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK", 3)
    ours = BlockLayer(window)
    theirs = DynamicLayer() if window is None else DynamicSlidingWindowLayer(window)
    torch.manual_seed(0)
    for step in range(15):
        count = prompt if step == 0 else 1
        rows = 2 if step <= 1 else (4 if step < 8 else 3)
        new = torch.randn(2, rows, 1, count, 2)
        assert ours.get_mask_sizes(count) == theirs.get_mask_sizes(count)
        for one, other in zip(ours.update(*new), theirs.update(*new), strict=True):
            assert torch.equal(one, other)
        assert ours.get_seq_length() == theirs.get_seq_length()
        for at, rows_kept in ((1, [0, 0, 1, 1]), (7, [0, 1, 3])):
            if step == at:
                ours.batch_select_indices(torch.tensor(rows_kept))
                theirs.batch_select_indices(torch.tensor(rows_kept))


def test_a_step_writes_one_column_into_the_same_buffer() -> None:
    layer = BlockLayer()
    layer.update(*torch.randn(2, 2, 1, 4, 2))
    layer.batch_select_indices(torch.tensor([0, 1]))
    buffer = layer.keys.data_ptr()
    for _ in range(cache.BLOCK):
        layer.update(*torch.randn(2, 2, 1, 1, 2))
    assert layer.keys.data_ptr() == buffer
    layer.update(*torch.randn(2, 2, 1, 1, 2))
    assert layer.keys.data_ptr() != buffer


def test_a_sliding_layer_does_not_hold_what_it_no_longer_shows() -> None:
    layer = BlockLayer(window=5)
    layer.update(*torch.randn(2, 1, 1, 1000, 2))
    layer.batch_select_indices(torch.tensor([0]))
    assert layer.keys.shape[-2] == 4 + cache.BLOCK


def test_layers_follow_the_config() -> None:
    gemma = block_cache(tiny_models.tiny_model("gemma3", layers=4).config)
    assert [layer.window for layer in gemma.layers] == [8, None, 8, None]
    assert gemma.is_sliding == [True, False, True, False]
    assert [layer.window for layer in block_cache(tiny_models.tiny_model("llama").config).layers] == [None] * 3


def test_a_model_with_other_layers_keeps_transformers_own_cache() -> None:
    assert type(block_cache(MambaConfig(num_hidden_layers=2))) is DynamicCache


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize(("mine", "theirs"), [(3, 9), (9, 3), (4, 4), (12, 2)])
def test_rows_that_join_are_right_aligned_and_the_gap_is_zero(window: int | None, mine: int, theirs: int) -> None:
    one, other = BlockLayer(window), BlockLayer(window)
    keys, values = torch.randn(2, 3, 1, mine + 2, 2)
    more, _ = torch.randn(2, 2, 1, theirs, 2)
    one.update(keys, values)
    other.update(more, more)
    one.repack(torch.tensor([2, 0]), mine, other)
    columns = max(mine, theirs)
    assert one.get_seq_length() == columns
    seen = columns if window is None else min(columns, window - 1)
    shown, _ = one.update(*torch.zeros(2, 4, 1, 1, 2))
    assert shown.shape == (4, 1, seen + 1, 2)
    padded = torch.nn.functional.pad(keys[[2, 0]][:, :, -mine:], (0, 0, columns - mine, 0))
    assert torch.equal(shown[:2, :, :-1], padded[:, :, columns - seen :])
    assert torch.equal(shown[2:, :, :-1], torch.nn.functional.pad(more, (0, 0, columns - theirs, 0))[:, :, -seen:])
