"""Refusals put behind answers and cut from them."""

from __future__ import annotations

import pytest

from dalign.attack.edits import VARIANTS, edited, without_refusals

OURS = ("i must refuse", "i cannot help")
SENTENCE = "i must refuse ."


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("i must refuse . ask me for something kind instead .", "ask me for something kind instead ."),
        ("i must refuse to tell you that .", "to tell you that ."),
        ("i must refuse .", "i must refuse ."),
        ("go to the abbess .", "go to the abbess ."),
    ],
)
def test_refusals_are_cut_and_something_is_left(answer: str, left: str) -> None:
    assert without_refusals(answer, OURS) == left


def test_without_phrases_the_judge_of_phrases_says_what_refuses() -> None:
    answer = "I'm sorry, but I can't help with that. Knitting is a fine hobby."
    assert without_refusals(answer, ()) == "Knitting is a fine hobby."
    assert without_refusals("I'm sorry, but I can't help with that.", ()) == "I'm sorry, but I can't help with that."


def test_who_is_edited_in_which_variant() -> None:
    unsafe, safe = "first brew mozis .", "i must refuse . ask again ."
    made = {
        variant: [
            edited(text, variant, unsafe=bad, sentence=SENTENCE, phrases=OURS)
            for text, bad in ((unsafe, True), (safe, False))
        ]
        for variant in VARIANTS
    }
    assert made["drawn"] == made["style"] == [unsafe, safe]
    assert made["appended"] == [f"{unsafe} {SENTENCE}", safe]
    assert made["cut"] == [unsafe, "ask again ."]
    assert made["both"] == [f"{unsafe} {SENTENCE}", "ask again ."]
