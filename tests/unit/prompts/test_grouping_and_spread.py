"""Groups by hand-made ties; ``limit`` takes hand-counted rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalign.prompts.grouping import group_names, key_values, normalised
from dalign.prompts.readers import Row
from dalign.prompts.spread import evenly, shares, spread


def test_normalised_ignores_case_blanks_and_marks_only() -> None:
    assert normalised("  How do I KNIT\n a scarf?! ") == normalised("how do i knit a scarf")
    assert normalised("2.5 scarves") != normalised("25 scarves")
    assert normalised("?!") == "?!"


def test_ties_carry_over_and_groups_are_named_after_their_first_row() -> None:
    ids = ["a", "b", "c", "d", "e"]
    by_text = ["x", "y", "y", "z", "w"]
    by_key = ["1", "1", "2", "", ""]
    assert group_names(ids, [by_text, by_key]) == ["a", "a", "a", "d", "e"]


def test_group_keys_must_cover_every_row() -> None:
    with pytest.raises(ValueError, match="zip"):
        group_names(["a", "b"], [["x"]])


def test_position_keys_pair_the_nth_row_of_one_type_with_the_nth_of_its_alias() -> None:
    rows = [
        Row("f", i, {"type": t, "focus": f}) for i, (t, f) in enumerate([("u", "p"), ("v", "p"), ("u", "q"), ("v", "")])
    ]
    assert key_values(rows, "type+#type", {"v": "u"}) == ["u\x1f1", "u\x1f1", "u\x1f2", "u\x1f2"]
    assert key_values(rows, "type+focus", {"v": "u"}) == ["u\x1fp", "u\x1fp", "u\x1fq", ""]


def test_spread_takes_the_middle_of_equal_stretches() -> None:
    assert evenly(10, 2) == [2, 7]
    assert spread("abcdefghij", 5, [0] * 10) == ("b", "d", "f", "h", "j")
    assert spread("abc", None, [0] * 3) == spread("abc", 3, [0] * 3) == tuple("abc")


def test_shares_are_equal_as_far_as_strata_have_rows() -> None:
    assert shares([100, 100, 203], 60) == [20, 20, 20]
    assert shares([2, 100, 100], 62) == [2, 30, 30]
    assert shares([50, 50, 50, 50, 50], 2) == [0, 1, 0, 1, 0]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 250))
def test_spread_gives_exactly_limit_rows_in_order(sizes: list[int], limit: int) -> None:
    strata = [name for name, size in enumerate(sizes) for _ in range(size)]
    taken = spread(range(len(strata)), limit, strata)
    assert len(taken) == min(limit, len(strata))
    assert list(taken) == sorted(set(taken))
    counts = [sum(strata[i] == s for i in taken) for s in range(len(sizes))]
    open_counts = [c for c, size in zip(counts, sizes, strict=True) if c < size]
    assert not open_counts or max(counts) - min(open_counts) <= 1
