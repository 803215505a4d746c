"""A stage's folder as several processes have it open: the first one works in it, the others look on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from dalign.ranks import Ranks
from dalign.store import StageFolder


class FollowedFolder(StageFolder):
    """See ``StageFolder``. Process 0 locks, checks and writes it; for the others it opens once it is checked, and what
    they log and finish goes nowhere."""

    def __init__(
        self,
        path: Any,
        ranks: Ranks,
        *,
        config: Mapping[str, Any],
        results: Mapping[str, Any],
        inputs: Mapping[str, str],
    ) -> None:
        super().__init__(path, config=config, results=results, inputs=inputs)
        self.ranks = ranks

    def __enter__(self) -> Self:
        if self.ranks.leads:
            super().__enter__()
        try:
            self.ranks.require_equal(self._inputs, "the inputs")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ranks.leads:
            super().__exit__(kind, value, trace)

    def log(self, row: Mapping[str, float | int | str | None]) -> None:
        """Appends a row to ``metrics.jsonl``; one that several processes made says how many."""
        if self.ranks.leads:
            super().log(row if self.ranks.world == 1 else {**row, "processes": self.ranks.world})

    def finish(self, files: Sequence[str], **facts: Any) -> None:
        """Writes the manifest, which says how many processes there were if there were several."""
        if self.ranks.leads:
            super().finish(files, **facts, **({} if self.ranks.world == 1 else {"processes": self.ranks.world}))
