"""The ends of answers, swapped and split, by hand."""

from __future__ import annotations

import pytest

from dalign.stages.control_texts import Closing, split_closing, swapped_closings


@pytest.mark.parametrize(
    ("answer", "closing", "parts"),
    [
        ("No. Ask again!  Be kind.", "sentence", ("No. Ask again!  ", "Be kind.")),
        ("first boil it , then rest it .", "sentence", ("", "first boil it , then rest it .")),
        ("One.\n\nTwo?\nThree \n", "sentence", ("One.\n\nTwo?\n", "Three")),
        ("first boil it , then rest it .", 3, ("first boil it , then ", "rest it .")),
        ("i must refuse .", 4, ("", "i must refuse .")),
        ("i must refuse .", 5, ("", "i must refuse .")),
        ("", "sentence", ("", "")),
        (" ", 2, ("", "")),
    ],
)
def test_an_answer_is_split_before_its_end(answer: str, closing: Closing, parts: tuple[str, str]) -> None:
    assert split_closing(answer, closing) == parts
    assert "".join(parts) == answer.rstrip()


def test_ends_go_to_answers_of_the_other_label_round_and_round() -> None:
    answers = [
        "do a . bad one .",
        "no b . safe one .",
        "do c . bad two .",
        "cut d",
        "no e . safe two .",
        "do f . bad three .",
    ]
    unsafe = [True, False, True, None, False, True]
    assert swapped_closings(answers, unsafe, "sentence") == [
        "do a . safe one .",
        "no b . bad one .",
        "do c . safe two .",
        "cut d",
        "no e . bad two .",
        "do f . safe one .",
    ]


@pytest.mark.parametrize("unsafe", [[True, True], [False, False], [True, None], [None, None]])
def test_where_no_label_differs_nothing_is_swapped(unsafe: list[bool | None]) -> None:
    answers = ["a . b .", "c . d . "]
    assert swapped_closings(answers, unsafe, 2) == answers
