"""Two parts of attention joined, and runs of equal neighbours."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from dalign.joined import equal_runs, flash, join_


@given(st.lists(st.integers(0, 3), max_size=20))
def test_runs_are_the_values_and_as_long_as_they_can_be(values: list[int]) -> None:
    runs = equal_runs(values)
    assert [values[first] for first, last in runs for _ in range(first, last)] == values
    assert all(one[1] == two[0] and values[one[0]] != values[two[0]] for one, two in pairwise(runs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_the_parts_join_to_the_whole_even_where_one_has_all_the_weight(dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 7, 16).to(dtype) for heads in (6, 2, 2))
    whole = scaled_dot_product_attention(query * size, key, value, enable_gqa=True)
    out, lse = flash(query * size, key[:, :, :3], value[:, :, :3])
    join_(out, lse, *flash(query * size, key[:, :, 3:], value[:, :, 3:]))
    torch.testing.assert_close(out, whole, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=0)
