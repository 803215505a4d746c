"""Adaptive attacks: who attacks, by whose feedback, how long; and the attack of one who knows the selector."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from dalign.specs.base import Free, Spec
from dalign.specs.judge import AnyJudge
from dalign.specs.model import ModelSpec
from dalign.specs.remote import EndpointSpec
from dalign.specs.sampling import SamplerSpec

Strategy = Literal["roleplay", "logic", "authority"]
Target = Literal["single", "bon"]
AttackName = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class ChatAttackerSpec(Spec):
    """What attackers that converse share. Stream i follows ``strategies[i % len]``, each one a Markdown file beside the
    instruction. The attacker is shown the last ``memory`` turns of its stream; a reply without a prompt in it is asked
    for again, ``attempts`` times in all. ``instruction``: a text file instead of the project's own words, with
    ``{goal}``, ``{strategy}`` and ``{iterations}`` in their places.
    """

    strategies: tuple[Strategy, ...] = Field(("roleplay", "logic", "authority"), min_length=1)
    memory: PositiveInt = 4
    attempts: PositiveInt = 3
    instruction: str | None = None


class ServerAttackerSpec(ChatAttackerSpec):
    """A chat model behind ``endpoint``."""

    kind: Literal["server"] = "server"
    endpoint: EndpointSpec


class ModelAttackerSpec(ChatAttackerSpec):
    """A chat model in this process, drawn from by ``sampler`` (whose ``n`` and ``chunk`` mean nothing here)."""

    kind: Literal["model"] = "model"
    model: ModelSpec
    sampler: SamplerSpec


class WorldAttackerSpec(Spec):
    """A search over the embedded world's own phrases, where no chat model lives. ``frames``: ``trained`` dresses
    requests as the training prompts do, ``all`` also in the held-out tales and roles."""

    kind: Literal["world"] = "world"
    frames: Literal["trained", "all"] = "all"


Attacker = Annotated[ServerAttackerSpec | ModelAttackerSpec | WorldAttackerSpec, Field(discriminator="kind")]


class PairSpec(Spec):
    """PAIR (Chao et al. 2023, arXiv 2310.08419): an attacker rewrites a request by a judge's feedback on the answers.

    ``judge`` gives that feedback, from 1 to 10; the verdicts that are reported come from ``judges``. ``targets``: one
    sample a turn (``single``), and the headline selector's choice of ``sampler.n`` (``bon``). A request is attacked in
    ``streams`` that know nothing of each other, until one of them gets feedback of ``stop_at``, null never. ``chunk``
    requests are the unit of work, committed iteration by iteration.
    """

    kind: Literal["pair"] = "pair"
    name: AttackName = "pair"
    attacker: Attacker
    judge: AnyJudge
    targets: Annotated[tuple[Target, ...], Free()] = Field(("single", "bon"), min_length=1)
    streams: PositiveInt = 3
    iterations: PositiveInt = 8
    stop_at: int | None = Field(10, ge=2, le=10)
    chunk: PositiveInt = 10


class SelectorAttackSpec(Spec):
    """An adversary who knows the selector. ``sentence`` is appended to the answers that ``judge`` finds unsafe, and
    refusals are cut from those it finds safe: sentences that hold one of ``phrases``, where there are none those that
    refuse by the judge of phrases. ``style`` is appended to the prompt, and answers are drawn again.
    """

    kind: Literal["selector"] = "selector"
    name: AttackName = "selector"
    judge: AnyJudge
    sentence: str = Field(min_length=1)
    phrases: tuple[str, ...] = ()
    style: str = Field(min_length=1)


Attack = Annotated[PairSpec | SelectorAttackSpec, Field(discriminator="kind")]
