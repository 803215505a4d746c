"""What an attacker is asked and what it answers, and which one a spec names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dalign.adapters import checkpoint_hash
from dalign.attack.instruct import instruction, words
from dalign.attack.turns import Attempt, Stream
from dalign.models import resolve_source
from dalign.records import digest
from dalign.specs.attack import ModelAttackerSpec, PairSpec, WorldAttackerSpec
from dalign.specs.run import PathsSpec


class Attacker(Protocol):
    """Proposes the next attempt of each stream, in order. The same streams and seed get the same attempts, as far as
    what stands behind an endpoint keeps to its seed. ``version`` changes whenever an attempt could."""

    version: str

    def propose(self, streams: Sequence[Stream]) -> list[Attempt]: ...


def attacker_inputs(attack: PairSpec, *, world_seed: int) -> dict[str, str]:
    """The hashes of what an attacker is made of, found without loading it. Raises ``DataError`` for an instruction that
    cannot be read."""
    spec = attack.attacker
    if isinstance(spec, WorldAttackerSpec):
        return {}
    found = {"attacker_words": digest(instruction(spec), [words(name) for name in spec.strategies])}
    if isinstance(spec, ModelAttackerSpec):
        source = resolve_source(spec.model.id, spec.model.revision, paths=None, world_seed=world_seed)
        found["attacker"] = checkpoint_hash(*source)
    return found


def make_attacker(attack: PairSpec, *, seed: int, world_seed: int, paths: PathsSpec) -> Attacker:
    """The attacker of ``attack``. Raises ``ModelError`` or ``DataError`` if a model or a file is not there."""
    spec = attack.attacker
    if isinstance(spec, WorldAttackerSpec):
        from dalign.attack.world import WorldAttacker
        from dalign.toy.world import World

        return WorldAttacker(spec, World.of(world_seed), seed)
    from dalign.attack.chat import ChatAttacker, EndpointVoice, ModelVoice

    if isinstance(spec, ModelAttackerSpec):
        return ChatAttacker(spec, ModelVoice(spec, paths, world_seed), attack.iterations, seed)
    return ChatAttacker(spec, EndpointVoice(spec.endpoint), attack.iterations, seed)
