"""The only code that turns messages into token ids, and response ids back into reasoning and answer.

Training, sampling, attribution and judging all take their ids from here, so a sample is scored under the ids it was
drawn with. The template's control tokens become ids; the same strings inside a message stay text: they are cut in two
before they are encoded (transformers #29279, HarmBench #91).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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

    def prompt_ids(self, messages: Sequence[Message], *, think: bool) -> tuple[int, ...]:
        """The ids of ``messages`` up to the assistant's turn; with ``think`` the opening tag, if it belongs there."""
        pieces = self._pieces(messages, generation=True)
        if think and self.think.where == "prompt" and not pieces[-1][0].rstrip().endswith(self.think.open):
            pieces[-1] = (f"{pieces[-1][0]}{self.think.open}\n", False)
        return tuple(self._encode(pieces))

    def user_ids(self, text: str, *, think: bool) -> tuple[int, ...]:
        """The prompt ids of one user turn, after the system turn if the model has one."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        return self.prompt_ids([*system, {"role": "user", "content": text}], think=think)

    def completion_ids(self, reasoning: str, answer: str) -> tuple[int, ...]:
        """What follows ``user_ids(..., think=True)`` in training: reasoning, closing tag, answer, the turn's end."""
        open_tag = [(f"{self.think.open}\n", False)] if self.think.where == "learnt" else []
        if self.think.where == "none":
            pieces = [(answer.strip(), True)]
        else:
            tag = f"\n{self.think.close}\n\n"
            pieces = [*open_tag, (reasoning.strip(), True), (tag, False), (answer.strip(), True)]
        return (*self._encode(pieces), self.end_id)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """The ids of plain text, in which nothing is a control token."""
        return tuple(self._encode([(text, True)]))

    def parse(self, response_ids: Sequence[int], *, think: bool) -> Parts:
        """Reasoning and answer of a drawn response; ``think`` as it was when the prompt was built."""
        text = self.tokenizer.decode(list(response_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        before, tag, after = text.partition(self.think.close)
        expected = think and self.think.where != "none"
        if not tag and not expected:
            return Parts("", text.strip(), closed=True)
        reasoning = before.strip().removeprefix(self.think.open).strip()
        return Parts(reasoning, after.strip(), closed=bool(tag))

    def count_control(self, text: str) -> int:
        """How many control-token strings ``text`` holds (all of them are kept as text)."""
        return sum(1 for _ in self._control.finditer(text)) if self._control else 0

    @cached_property
    def end_id(self) -> int:
        """The id that ends an assistant turn, read off the template; the tokenizer's EOS where it shows none."""
        probe = [{"role": "user", "content": _MARK.format(0)}, {"role": "assistant", "content": _MARK.format(1)}]
        rendered = self._render(probe, generation=False)
        tail = rendered.partition(_MARK.format(1))[2]
        match = self._control.search(tail) if self._control else None
        if match:
            return int(self.tokenizer.convert_tokens_to_ids(match.group()))
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                f"{self.tokenizer.name_or_path!r}: neither its chat template nor its tokenizer ends a turn"
            )
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def _control(self) -> re.Pattern[str] | None:
        """Strings that would become control tokens: special ones, and others that the template or our tags use."""
        template = str(self.tokenizer.chat_template)
        tags = {self.think.open, self.think.close}
        names = {
            token.content
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.content.strip() and (token.special or token.content in tags or token.content in template)
        }
        ordered = sorted(names, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def _render(self, messages: Sequence[Message], *, generation: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=generation
            )
        )

    def _pieces(self, messages: Sequence[Message], *, generation: bool) -> list[tuple[str, bool]]:
        """The rendered template as (text, is_content) pieces, found by rendering marks in place of the contents."""
        marked = [{**m, "content": f" {_MARK.format(i)} "} for i, m in enumerate(messages)]
        rest = self._render(marked, generation=generation)
        pieces: list[tuple[str, bool]] = []
        for i, message in enumerate(messages):
            mark = _MARK.format(i)
            if mark not in rest:
                raise ModelError(f"{self.tokenizer.name_or_path!r}: its chat template drops the {message['role']} turn")
            raw = f" {mark} " in rest  # a template that trims its contents has eaten the blanks
            before, _, rest = rest.partition(f" {mark} " if raw else mark)
            pieces += [(before, False), (message["content"] if raw else message["content"].strip(), True)]
        return [*pieces, (rest, False)]

    def _encode(self, pieces: Sequence[tuple[str, bool]]) -> Iterator[int]:
        """Ids of the pieces: template control tokens as ids, everything between two of them encoded as one string."""
        run = ""
        for text, is_content in pieces:
            position = 0
            while match := (self._control.search(text, position) if self._control else None):
                cut = match.start() + 1 if is_content else match.start()
                yield from self._plain(run + text[position:cut])
                run = ""
                if not is_content:
                    yield int(self.tokenizer.convert_tokens_to_ids(match.group()))
                position = cut if is_content else match.end()
            run += text[position:]
        yield from self._plain(run)

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []
