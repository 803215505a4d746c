"""Attention behind prompts, taken apart and joined, against one attention over both under a mask."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tiny_models
import torch
from torch import Tensor

from dalign.attribute import behind as room
from dalign.attribute.batches import left_pad, right_pad
from dalign.attribute.behind import at_places, attend, behind
from dalign.attribute.hidden import Wanted, read_prompts, read_responses
from dalign.attribute.prefix import PrefixCache, PrefixLayer

CPU = torch.device("cpu")


def case(
    lengths: list[int], rows: list[int], columns: int
) -> tuple[PrefixCache, tuple[Tensor, Tensor, Tensor], Tensor]:
    """Prompts of ``lengths`` tokens behind padding that is NaN, and 6 heads on 2 of queries, keys, values for rows."""
    torch.manual_seed(0)
    layer = PrefixLayer()
    width = max(lengths)
    keys, values = torch.randn(len(lengths), 2, width, 8), torch.randn(len(lengths), 2, width, 8)
    for prompt, length in enumerate(lengths):
        keys[prompt, :, : width - length] = values[prompt, :, : width - length] = torch.nan
    layer.update(keys, values)
    own = (torch.randn(len(rows), heads, columns, 8) for heads in (6, 2, 2))
    query, key, value = own
    expected = torch.stack(
        [
            torch.nn.functional.scaled_dot_product_attention(
                query[row],
                torch.cat([keys[prompt, :, width - lengths[prompt] :], key[row]], 1).repeat_interleave(3, 0),
                torch.cat([values[prompt, :, width - lengths[prompt] :], value[row]], 1).repeat_interleave(3, 0),
                attn_mask=torch.ones(columns, lengths[prompt] + columns).tril(lengths[prompt]).bool(),
                scale=0.3,
            )
            for row, prompt in enumerate(rows)
        ]
    )
    return PrefixCache(layers=[layer]), (query, key, value), expected.transpose(1, 2)


MODEL = SimpleNamespace(
    device=CPU, config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(_attn_implementation="sdpa"))
)
MODULE = SimpleNamespace(layer_idx=0, num_key_value_groups=3, is_causal=True)


@pytest.mark.parametrize("rows", [[0, 0, 1, 2, 2], [1, 0, 1], [2]])
@pytest.mark.parametrize("columns", [1, 9])
def test_the_two_parts_join_to_attention_over_both_and_padding_is_not_read(rows: list[int], columns: int) -> None:
    lengths = [5, 12, 1]
    cache, (query, key, value), expected = case(lengths, rows, columns)
    with behind(MODEL, 1, cache, torch.tensor(lengths), torch.tensor(rows)):
        found, _ = attend(MODULE, query, key, value, None, scaling=0.3)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_queries_of_chosen_places_see_nothing_behind_them() -> None:
    lengths, rows, read_BK = [5, 12], [0, 1, 1], torch.tensor([[3, 0], [8, 2], [0, 7]])
    cache, (query, key, value), expected = case(lengths, rows, 9)
    index = read_BK[:, None, :, None].expand(-1, 6, -1, 8)
    with behind(MODEL, 1, cache, torch.tensor(lengths), torch.tensor(rows)), at_places(read_BK):
        found, _ = attend(MODULE, query.gather(2, index), key, value, None, scaling=0.3)
    torch.testing.assert_close(found, expected.gather(1, index.transpose(1, 2)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_full_layers_come_this_way_and_everything_is_as_before_afterwards(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it the results would be right and slow: counted, a response's pass calls it once a full layer."""
    calls: list[bool] = []
    flash = room.flash

    def counted(*args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        calls.append(True)
        out: tuple[Tensor, Tensor] = flash(*args, **kwargs)
        return out

    monkeypatch.setattr(room, "flash", counted)
    model = tiny_models.tiny_model(kind, layers=4)
    text = model.config.get_text_config()
    text._attn_implementation = "sdpa"
    rows = torch.tensor([0, 0])
    with torch.no_grad():
        prompts = read_prompts(model, left_pad([(5, 9, 30)], 8, 0, CPU), Wanted(4))
        assert calls == []
        read_responses(model, prompts, rows, right_pad([(4, 7), (3,)], 8, 0, CPU), Wanted(4))
    full = [layer for layer in prompts.cache.layers if layer.window is None]
    assert len(calls) == 2 * len(full) > 0
    assert not any(layer.apart for layer in prompts.cache.layers)
    assert text._attn_implementation == "sdpa"
