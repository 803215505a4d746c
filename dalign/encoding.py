"""Text to ids by one tokenizer, where only what the code marks as template can become a control token.

The strings of control tokens inside users' and models' text stay text: they are cut in two before they are encoded
(transformers #29279, HarmBench #91).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dalign.control_tokens import pattern

Piece = tuple[str, bool]  # a text, and whether it is content, in which nothing is a control token


class Encoder:
    """``tokenizer`` with its control strings: the special ones, and the added ones in ``tags`` or in ``template``."""

    def __init__(self, tokenizer: Any, *, template: str, tags: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.control_strings = frozenset(
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.content.strip() and (token.special or token.content in tags or token.content in template)
        )
        self.control = pattern(self.control_strings)

    def encode(self, pieces: Sequence[Piece]) -> tuple[int, ...]:
        """Ids of the pieces: template control tokens as ids, everything between two of them encoded as one string."""
        return self.encode_with_endings(pieces, [""])[0]

    def encode_with_endings(self, pieces: Sequence[Piece], endings: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of the pieces with each of ``endings`` behind them, each without control tokens; what stands before the
        last control token is encoded once."""
        *before, tail = self._runs(pieces)
        start = [i for run in before for i in (self._plain(run) if isinstance(run, str) else [run])]
        return [(*start, *self._plain(f"{tail}{ending}")) for ending in endings]

    def first_control_id(self, text: str) -> int | None:
        """The id of the first control string in ``text``; None without one."""
        match = self.control.search(text) if self.control else None
        return self._id(match.group()) if match else None

    def _runs(self, pieces: Sequence[Piece]) -> Iterator[str | int]:
        """Control ids and the runs of text between them, in turn; a run, maybe empty, comes last."""
        run = ""
        for text, is_content in pieces:
            position = 0
            while match := (self.control.search(text, position) if self.control else None):
                cut = match.start() + 1 if is_content else match.start()
                yield run + text[position:cut]
                run = ""
                if not is_content:
                    yield self._id(match.group())
                position = cut if is_content else match.end()
            run += text[position:]
        yield run

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))
