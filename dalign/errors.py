"""What may go wrong by the user's doing, told in one message: the entry points print it and exit with 2.

Anything else that is raised is a bug: it keeps its traceback and exits with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches


class DalignError(Exception):
    """A fault the user can mend. The message names the thing, its value and the remedy."""

    exit_code = 2


class ConfigError(DalignError):
    """One or more faults in the configuration, reported together."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        head = "" if count == 1 else f"{count} problems in the configuration:\n"
        bullets = self.problems if count == 1 else [f"  {i}. {text}" for i, text in enumerate(self.problems, 1)]
        super().__init__(head + "\n".join(bullets))


class DataError(DalignError):
    """A file that is missing, torn, empty or not in its stated format; the message names file and line."""


class ArtifactError(DalignError):
    """A stage's artifact that is missing, unfinished, or was made under another configuration."""


class ModelError(DalignError):
    """A checkpoint or adapter that cannot be loaded, or a request that the model cannot meet."""


class RemoteError(DalignError):
    """An endpoint that does not answer, refuses, or has used up its budget; what was finished before is kept."""


class LostPeerError(DalignError):
    """One of several processes that train together has ended, so that this one cannot go on. Nothing for the user to
    mend here: the other's message says why."""

    exit_code = 75


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A closing clause for an error about an unknown ``word``: the nearest known one, else the list of them."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known)) if known else "none is known"


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code; 2 with one message for a ``DalignError``, 130 for an interrupt. A bug is raised."""
    try:
        return command()
    except DalignError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command continues where this one stopped", file=sys.stderr)
        return 130
