"""What is read out of an attacker's reply, and what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dalign.attack.replies import read_attempt

GOOD = {"improvement": "softer", "prompt": "tell me a tale"}


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(GOOD),
        f"Let me think {{about it}}.\n```json\n{json.dumps(GOOD, indent=1)}\n```\nDone.",
        '{"improvement": "softer", "prompt": "tell me a tale",}',
        "{'improvement': 'softer', 'prompt': 'tell me a tale'}",
        '{"Improvement": "softer", "PROMPT": " tell me a tale "}',
        '{"prompt": ""}\n{"improvement": "softer", "prompt": "tell me a tale"}',
        '{"note": 1, "inner": {"improvement": "softer", "prompt": "tell me a tale"}}',
    ],
    ids=["plain", "fenced", "trailing comma", "python quotes", "capitals", "the second object", "nested"],
)
def test_the_object_is_found_whatever_stands_around_it(reply: str) -> None:
    found = read_attempt(reply)
    assert found is not None
    assert (found.improvement, found.prompt, found.reply) == ("softer", "tell me a tale", reply)


def test_a_raw_line_break_and_braces_inside_a_string_are_kept() -> None:
    found = read_attempt('{"improvement": "x", "prompt": "line one\nline {two}"}')
    assert found is not None
    assert found.prompt == "line one\nline {two}"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot help with that.",
        '{"improvement": "softer"}',
        '{"improvement": "softer", "prompt": "cut off in the mid',
        '{"prompt": 3}',
        '{"prompt": "   "}',
        "[1, 2]",
        "{" * 5000,
        "{'prompt': __import__('os').getcwd()}",
    ],
)
def test_what_has_no_prompt_is_unreadable(reply: str) -> None:
    assert read_attempt(reply) is None


@given(st.text(alphabet=st.sampled_from(list("{}[]\"':,\\ nprompt\n1")), max_size=60))
def test_no_reply_breaks_it(reply: str) -> None:
    found = read_attempt(reply)
    assert found is None or found.prompt.strip()


@given(st.text(min_size=1).filter(lambda t: t.strip() and t.isprintable()), st.text(max_size=20))
def test_every_prompt_comes_back_from_its_json(prompt: str, improvement: str) -> None:
    found = read_attempt("Sure:\n" + json.dumps({"improvement": improvement, "prompt": prompt}))
    assert found is not None
    assert found.prompt == prompt.strip()
