"""N-grams by hand, and the overlap against a search that compares every pair of texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalign.prompts.overlap import N, ngrams, overlap, words

TEXTS = st.lists(st.lists(st.sampled_from("ab"), max_size=6).map(" ".join), max_size=5)


def test_words_are_lower_cased_runs_of_letters_and_digits() -> None:
    assert words("Knit_2  SCARVES,\n— don't stop!") == ["knit", "2", "scarves", "don", "t", "stop"]
    assert words("?! ...") == []


def test_ngrams_are_runs_of_n_words() -> None:
    assert ngrams("Knit a scarf, a scarf", 2) == {"knit a", "a scarf", "scarf a"}
    assert ngrams("knit a scarf", 3) == {"knit a scarf"}
    assert ngrams("knit a scarf", 4) == set()
    assert N == 8
    with pytest.raises(ValueError, match="n=0"):
        ngrams("knit", 0)


def test_eight_words_in_a_row_overlap_and_seven_do_not() -> None:
    training = ["How do I knit a warm woollen scarf for winter?", "knit"]
    seven = "i knit a warm woollen scarf for summer, how do"
    eight = "Tell me: DO I KNIT A WARM-WOOLLEN SCARF FOR a friend"
    apart = "how do i knit a warm woollen hat or scarf for winter"
    found = overlap(training, [seven, eight, apart, "knit"])
    assert found.shared == ((), (0,), (), ())
    assert found.too_short == (3,)


def test_every_training_text_that_shares_is_named_once() -> None:
    found = overlap(["a b c", "c b a", "x a b b c"], ["a b", "b c a b"], 2)
    assert found.shared == ((0, 2), (0, 2))
    assert overlap([], ["a b"], 2).shared == ((),)
    assert overlap(["a b"], [], 2).shared == ()


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_the_index_finds_what_comparing_every_pair_finds(training: list[str], benchmark: list[str], n: int) -> None:
    found = overlap(training, benchmark, n)
    by_pairs = [tuple(t for t, a in enumerate(training) if f" {a} " in _padded(a, b, n)) for b in benchmark]
    assert list(found.shared) == by_pairs
    assert list(found.too_short) == [i for i, text in enumerate(benchmark) if len(text.split()) < n]


def _padded(a: str, b: str, n: int) -> str:
    """`` a `` where some run of ``n`` words of ``b`` stands in ``a``, else nothing."""
    parts = b.split()
    runs = [" ".join(parts[i : i + n]) for i in range(len(parts) - n + 1)]
    return f" {a} " if any(f" {run} " in f" {a} " for run in runs) else ""


@given(TEXTS, TEXTS)
def test_case_and_marks_change_nothing_and_more_training_only_adds(training: list[str], benchmark: list[str]) -> None:
    loud = [f"“{text.upper().replace(' ', ', ')}!”" for text in training]
    assert overlap(loud, benchmark, 2) == overlap(training, benchmark, 2)
    more = overlap([*training, "a b"], benchmark, 2)
    fewer = overlap(training, benchmark, 2)
    assert all(set(less) <= set(all_) for less, all_ in zip(fewer.shared, more.shared, strict=True))
