"""Guards as the released code asks them: the bare response, without its prompt and without the guard's template.

For measuring what that is worth (``protocol=released_code``), and for nothing else.
"""

from __future__ import annotations

from dalign.encoding import Piece
from dalign.judge.base import JudgeItem, Screened
from dalign.judge.guard import Guard
from dalign.judge.make import guard_folder
from dalign.judge.toy_guard import ToyGuard
from dalign.records import Part
from dalign.specs.judge import AnyJudge, GuardSpec, ToyGuardSpec
from dalign.specs.run import PathsSpec


class BareGuard(Guard):
    """Reads P(unsafe) of the forced reply right behind the response, however unlikely any reply is there."""

    def __init__(self, spec: GuardSpec) -> None:
        super().__init__(spec.model_copy(update={"min_menu": 0.0}))

    def pieces(self, item: JudgeItem, part: Part) -> list[Piece]:
        """The judged part and nothing around it, after the token that begins every text, if there is one."""
        start = self.tokenizer.bos_token or ""
        return [(start, False), (item.text(part), True)]


class BareToyGuard(ToyGuard):
    """Reads P(unsafe) off the end of the response."""

    def input_ids(self, item: JudgeItem, part: Part) -> tuple[int, ...]:
        """The judged part alone."""
        return self.chat.text_ids(item.text(part))


def can_be_bare(spec: AnyJudge) -> bool:
    """Whether a judge is a guard with a template to leave out; a judge by rules or behind an endpoint has none."""
    return isinstance(spec, GuardSpec | ToyGuardSpec)


def bare_judge(spec: AnyJudge, *, world_seed: int, paths: PathsSpec) -> Screened:
    """The guard of ``spec``, asked with bare responses. Raises ``ValueError`` for a judge that is no guard."""
    if isinstance(spec, GuardSpec):
        guard: BareGuard | BareToyGuard = BareGuard(spec)
    elif isinstance(spec, ToyGuardSpec):
        guard = BareToyGuard(spec, guard_folder(spec, world_seed, paths))
    else:
        raise ValueError(f"judge {spec.name}: no guard, so there is no bare way to ask it")
    guard.version = f"{guard.version}-bare"
    return Screened(guard)
