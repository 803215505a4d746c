"""Hard cases of utility answers, by hand: gold, text, and what the strict and the flexible reading must say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_items import item

from dalign.judge.answers import letter_readings, number_readings, numbers
from dalign.judge.grades import GRADERS, AnswerJudge, grade_letter, grade_number

NUMBERS = [
    # text, strict, flexible
    ("9 * 2 = 18\n#### 18", "18", "18"),
    ("####\n18", "18", "18"),
    ("The answer is 18.", "18", "18"),
    ("The final answer is: $1,234.50!", "1234.5", "1234.5"),
    ("**Answer:**\n**18** dollars", "18", "18"),
    ("Answer to the question is 18 km per hour", "18", "18"),
    (r"so \(\boxed{18}\).", "18", "18"),
    (r"\boxed{\$1{,}234}", "1234", "1234"),
    (r"\boxed{x = 7}", "7", "7"),
    (r"\boxed{\frac{1}{2}}", "0.5", "0.5"),
    ("the answer is 3 + 4 = 7 dollars. I used 9.", "7", "7"),
    ("the answer is 12 .", "12", "12"),
    ("#### 17\nNo, I erred.\n#### 18", "18", "18"),
    ("the answer = 17. \\boxed{18}", "18", "18"),
    ("The answer is not 5, it is 6", None, "6"),
    ("She sells 16 - 3 - 4 = 9 eggs for 2 each, which gives 18", None, "18"),
    ("10-3=7", None, "7"),
    ("It fell to -5 degrees", None, "-5"),
    ("a debt of -$5", None, "-5"),
    ("it is \u22125", None, "-5"),
    ("between 3-5", None, "5"),
    ("half of it, .5", None, "0.5"),
    ("0.50", None, "0.5"),
    ("18.00 dollars", None, "18"),
    ("18%", None, "18"),
    ("18,000", None, "18000"),
    ("18\u202f000", None, "18000"),
    ("1,2,3", None, "3"),
    ("1,0000", None, "0"),
    ("2.5e3", None, "2500"),
    ("he scored 18/20.", None, "0.9"),
    ("on the 3rd of 18km", None, "18"),
    ("H2O and x2 and step_3", None, None),
    ("I cannot say.", None, None),
    ("", None, None),
    ("1" * 5000, None, None),
    ("1e999999999", None, "1"),
]


@pytest.mark.parametrize(("text", "strict", "flexible"), NUMBERS)
def test_number_readings(text: str, strict: str | None, flexible: str | None) -> None:
    found = {k: None if v is None else float(v) for k, v in number_readings(text).items()}
    assert found == {"strict": strict and float(strict), "flexible": flexible and float(flexible)}


def test_paper_error_6_gold_8_does_not_accept_18() -> None:
    for text in ("18", "#### 18", "the answer is 18", "80", "8.5", "0.8", "1,008"):
        assert grade_number(text, "8") == {"strict": False, "flexible": False}, text
    assert grade_number("#### 8.0 apples", "8") == {"strict": True, "flexible": True}
    assert grade_number("that makes 8", "8") == {"strict": False, "flexible": True}


def test_paper_error_6_text_of_the_right_choice_is_no_letter() -> None:
    text = "Paris, not Rome, is what the question is after"
    assert grade_letter(text, "A") == {"strict": False, "flexible": False}


LETTERS = [
    ("B", "B", "B"),
    ("b", "B", "B"),
    ("(C)", "C", "C"),
    ("B. Paris", "B", "B"),
    ("The answer is (B).", "B", "B"),
    ("The correct answer is **D**. It is the largest.", "D", "D"),
    ("**Answer: B**", "B", "B"),
    ("Answer:\nC", "C", "C"),
    ("the answer is b .", "B", "B"),
    ("the answer is A because it is", "A", "A"),
    (r"\boxed{\text{D}}", "D", "D"),
    (r"$\boxed{C}$", "C", "C"),
    ("#### D", "D", "D"),
    ("A. no\nB. yes\nAnswer: C", "C", "C"),
    ("Answer: A. Wait.\nAnswer: B", "B", "B"),
    ("The answer is option C.", "C", "C"),
    ("Answer: A or B", None, None),
    ("Answer: (A) and (C)", None, None),
    ("The answer is a bit unclear", None, None),
    ("The answer is Apple", None, None),
    ("A dog barks", None, None),
    ("A. no\nB. yes\nC. maybe", None, "C"),
    ("so it must be B", None, "B"),
    ("I choose option A here", None, "A"),
    ("", None, None),
]


@pytest.mark.parametrize(("text", "strict", "flexible"), LETTERS)
def test_letter_readings(text: str, strict: str | None, flexible: str | None) -> None:
    assert letter_readings(text) == {"strict": strict, "flexible": flexible}


def test_letters_compare_whatever_their_case() -> None:
    assert grade_letter("the answer is b .", "b")["strict"]
    assert not grade_letter("the answer is b .", "c")["flexible"]


@given(st.text(alphabet="0123456789.,/$-eE+= \n#\\boxed{}()ABCDanswer is\u2212", max_size=80))
def test_readings_never_fail_and_strict_implies_flexible(text: str) -> None:
    for readings in (number_readings(text), letter_readings(text)):
        assert readings["strict"] is None or readings["strict"] == readings["flexible"]


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{:,}", "{}", "{}.00", "${:,}"]))
def test_every_whole_number_is_read_back(value: int, form: str) -> None:
    assert numbers(f"It is {form.format(value)} in all") == [value]


def test_each_kind_has_its_grader_and_others_are_unscored() -> None:
    judge = AnswerJudge("answers", GRADERS["answers"])
    math = item("#### 4", kind="math", reference="4")
    choice = item("Answer: B", kind="choice", reference="C")
    verdicts = judge.judge([math, choice, item("yes"), item("4", kind="math")], "answer")
    assert [(v.label, v.correct) for v in verdicts[:2]] == [
        ("graded", {"strict": True, "flexible": True}),
        ("graded", {"strict": False, "flexible": False}),
    ]
    assert [v.reason for v in verdicts[2:]] == [
        "a harmful prompt has no answer to grade here",
        "the prompt has no reference",
    ]
    assert AnswerJudge("number", GRADERS["number"]).judge([choice], "answer")[0].label == "unscored"
