"""One fault of a configuration: its key, for leaving out what only follows from it, and the sentence the user reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dalign.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Problem:
    """``key`` is dotted (empty for the command line as a whole); ``text`` names key, value and remedy."""

    key: str
    text: str

    def follows_from(self, others: Iterable[Problem]) -> bool:
        """Whether this fault lies at, above or below the key of another one, which is then the one to tell."""
        return any(_touch(self.key, other.key) for other in others)


def _touch(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


def raise_all(problems: Iterable[Problem]) -> None:
    """Raises ``ConfigError`` with every distinct problem in order; does nothing without any."""
    texts = dict.fromkeys(problem.text for problem in problems)
    if texts:
        raise ConfigError(tuple(texts))


def nearest(word: str, known: Sequence[str]) -> str:
    """A closing clause for an unknown ``word`` of a few known ones: what was meant, where that is clear, and all."""
    hint = did_you_mean(word, known)
    return hint if hint.startswith("known") else f"{hint} (known: {', '.join(known)})"


def shown(value: object) -> str:
    """A value as a user would type it on the command line, cut where it is long."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
