"""Where reasoning ends."""

from __future__ import annotations

import pytest

from dalign.toy.sampling import split_reasoning


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("no law . </think> first", ("no law .", "first")),
        ("a </think> b </think> c", ("a", "b </think> c")),
        ("never closed", ("never closed", "")),
        ("</think> at once", ("", "at once")),
        ("closed at last </think>", ("closed at last", "")),
        ("", ("", "")),
    ],
)
def test_reasoning_ends_at_the_first_closing_tag(text, parts):
    assert split_reasoning(text) == parts
