"""The only code that turns messages into token ids, and response ids back into reasoning and answer.

Training, sampling, attribution and judging all take their ids from here, so a sample is scored under the ids it was
drawn with. The template's control tokens become ids; the same strings inside a message stay text (``encoding.py``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dalign.encoding import Encoder, Piece
from dalign.errors import ModelError
from dalign.specs.model import ThinkSpec

Message = Mapping[str, str]
_MARK = "\ue000{}\ue001"  # private-use characters: no template or vocabulary gives them a meaning


@dataclass(frozen=True)
class Parts:
    """A response taken apart at the first closing tag. ``closed`` is true where no reasoning was expected."""

    reasoning: str
    answer: str
    closed: bool


class Chat:
    """One tokenizer, its chat template, and the student's way of tagging reasoning.

    Raises ``ModelError`` if the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, think: ThinkSpec, system: str | None = None) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(
                f"{tokenizer.name_or_path!r} has no chat template; use a chat model, or add one to its tokenizer"
            )
        self.tokenizer = tokenizer
        self.think = think
        self.system = system
        self.encoder = Encoder(tokenizer, template=str(tokenizer.chat_template), tags=(think.open, think.close))

    def prompt_ids(self, messages: Sequence[Message], *, think: bool, prefill: str = "") -> tuple[int, ...]:
        """The ids of ``messages`` up to the assistant's turn; with ``think`` the opening tag, if it belongs there.

        ``prefill`` begins the answer: nothing in it is a control token. A tag that the template opens goes where the
        answer is begun, and where no reasoning is expected at all (``think.where=none``).
        """
        pieces = self.prompt_pieces(messages)
        if self.think.where == "none" or (prefill and not think):
            pieces = self._unopened(pieces)
        if think and self.think.where == "prompt" and not self._opened(pieces):
            pieces[-1] = (f"{pieces[-1][0]}{self.think.open}\n", False)
        return self.encoder.encode([*pieces, (prefill, True)])

    def user_ids(self, text: str, *, think: bool, prefill: str = "") -> tuple[int, ...]:
        """The prompt ids of one user turn, after the system turn if there is one; ``prefill`` begins the answer."""
        return self.prompt_ids(self._user_turn(text), think=think, prefill=prefill)

    def user_pieces(self, text: str) -> list[Piece]:
        """The pieces of one user turn up to an answer without reasoning: a tag that the template opens goes."""
        return self._unopened(self.prompt_pieces(self._user_turn(text)))

    def _user_turn(self, text: str) -> list[Message]:
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*system, {"role": "user", "content": text}]

    @cached_property
    def opens(self) -> bool:
        """Whether the template itself opens the reasoning: such a model reasons whoever asks it."""
        return self.think.where != "none" and self._opened(self.prompt_pieces(self._user_turn("")))

    def _opened(self, pieces: list[Piece]) -> bool:
        return pieces[-1][0].rstrip().endswith(self.think.open)

    def _unopened(self, pieces: list[Piece]) -> list[Piece]:
        head = pieces[-1][0].rstrip().removesuffix(self.think.open)
        return [*pieces[:-1], (head, False)] if self._opened(pieces) else pieces

    def completion_ids(self, reasoning: str, answer: str) -> tuple[int, ...]:
        """What follows ``user_ids(..., think=True)`` in training: reasoning, closing tag, answer, the turn's end."""
        open_tag = [(f"{self.think.open}\n", False)] if self.think.where == "learnt" else []
        if self.think.where == "none":
            pieces = [(answer.strip(), True)]
        else:
            tag = f"\n{self.think.close}\n\n"
            pieces = [*open_tag, (reasoning.strip(), True), (tag, False), (answer.strip(), True)]
        return (*self.encoder.encode(pieces), self.end_id)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """The ids of plain text, in which nothing is a control token."""
        return self.encoder.encode([(text, True)])

    def parse(self, response_ids: Sequence[int], *, think: bool) -> Parts:
        """Reasoning and answer of a drawn response; ``think`` as it was when the prompt was built."""
        text = self.tokenizer.decode(list(response_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        before, tag, after = text.partition(self.think.close)
        expected = think and self.think.where != "none"
        if not tag and not expected:
            return Parts("", text.strip(), closed=True)
        reasoning = before.strip().removeprefix(self.think.open).strip()
        return Parts(reasoning, after.strip(), closed=bool(tag))

    def places(self, response_ids: Sequence[int], *, closed: bool) -> tuple[int | None, int | None]:
        """Where in a drawn response the closing tag ends, and where its answer begins, as indices of tokens.

        None where there is no tag, or no answer. Without a tag an answer begins at once if ``closed``, as ``parse``
        says of a response from which no reasoning was expected, else there is none.
        """

        def text(n: int) -> str:
            ids = list(response_ids[:n])
            return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

        every, n = range(1, len(response_ids) + 1), len(response_ids)
        tag = bisect_left(every, True, key=lambda i: self.think.close in text(i))
        if tag == n:
            answer = bisect_left(every, True, key=lambda i: bool(text(i).strip())) if closed else n
        else:
            answer = bisect_left(every, True, key=lambda i: bool(text(i).partition(self.think.close)[2].strip()))
        return (tag if tag < n else None), (answer if answer < n else None)

    @property
    def control_strings(self) -> frozenset[str]:
        """The strings of the control tokens; inside a message each of them stays text."""
        return self.encoder.control_strings

    @cached_property
    def end_id(self) -> int:
        """The id that ends an assistant turn, read off the template; the tokenizer's EOS where it shows none."""
        probe = [{"role": "user", "content": _MARK.format(0)}, {"role": "assistant", "content": _MARK.format(1)}]
        rendered = self._render(probe, generation=False)
        tail = rendered.partition(_MARK.format(1))[2]
        if (found := self.encoder.first_control_id(tail)) is not None:
            return found
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                f"{self.tokenizer.name_or_path!r}: neither its chat template nor its tokenizer ends a turn"
            )
        return int(self.tokenizer.eos_token_id)

    def prompt_pieces(self, messages: Sequence[Message]) -> list[Piece]:
        """The template around ``messages`` up to the assistant's turn, as pieces; found by rendering marks in place of
        the contents. Raises ``ModelError`` if the template drops a turn."""
        return self._pieces(messages, generation=True)

    def turn_pieces(self, messages: Sequence[Message]) -> list[Piece]:
        """The template around whole ``messages``, an assistant's turn and its end the last; as ``prompt_pieces``."""
        return self._pieces(messages, generation=False)

    def _pieces(self, messages: Sequence[Message], *, generation: bool) -> list[Piece]:
        rest = self._rendered_marks(messages, generation)
        pieces: list[Piece] = []
        for i, message in enumerate(messages):
            mark = _MARK.format(i)
            if mark not in rest:
                raise ModelError(f"{self.tokenizer.name_or_path!r}: its chat template drops the {message['role']} turn")
            raw = f" {mark} " in rest  # a template that trims its contents has eaten the blanks
            before, _, rest = rest.partition(f" {mark} " if raw else mark)
            pieces += [(before, False), (message["content"] if raw else message["content"].strip(), True)]
        return [*pieces, (rest, False)]

    def _rendered_marks(self, messages: Sequence[Message], generation: bool) -> str:
        """The template with a mark in place of each content; contents as text, or as a list of parts where the template
        (Llama-Guard-3-1B's) reads only those."""
        marks = [f" {_MARK.format(i)} " for i in range(len(messages))]
        marked = [{**m, "content": mark} for m, mark in zip(messages, marks, strict=True)]
        plain = self._render(marked, generation=generation)
        if all(mark.strip() in plain for mark in marks):
            return plain
        parts = [[{"type": "text", "text": mark}] for mark in marks]
        typed = [{**m, "content": part} for m, part in zip(messages, parts, strict=True)]
        return self._render(typed, generation=generation)

    def _render(self, messages: Sequence[Mapping[str, Any]], *, generation: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=generation
            )
        )
