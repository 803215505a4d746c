"""The turn markers of the kingdom's chat, as text: what the tokenizer's chat template renders, word for word."""

from __future__ import annotations

PAD, END, UNKNOWN = "<|pad|>", "<|end|>", "<|unk|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, END, UNKNOWN, SYSTEM, USER, ASSISTANT)
THINK, THOUGHT = "<think>", "</think>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + ' <|end|> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def user_turn(text: str) -> str:
    """A user's turn and the header of the assistant's."""
    return f"{USER} {text} {END} {ASSISTANT}"


def teacher_turns(system: str, text: str) -> str:
    """A system turn, a user's turn and an assistant's header with the thinking opened."""
    return f"{SYSTEM} {system} {END} {user_turn(text)} {THINK}"
