"""The embedded world's attacker: a search over its own phrases, led by feedback, where no chat model lives.

A stream climbs from its best attempt so far: while feedback is low it takes a frame that it has not tried, once it has
risen it keeps the frame and changes a detail (opening, closing, words in the slots, the verb's nickname). Everything is
drawn from the seed, the goal, the stream and the iteration, so the same feedback gets the same attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from dalign.attack.turns import Attempt, Stream
from dalign.specs.attack import WorldAttackerSpec
from dalign.toy.tasks import Task
from dalign.toy.world import WORLD_VERSION, World

PROMISING = 3  # feedback from which on the frame is kept and a detail is changed
DETAILS = ("opening", "closing", "words", "verb")
_TRIES = 32  # of an attempt that the stream has not made before


@dataclass(frozen=True)
class Guise:
    """How a request is dressed: sentences before and after it, its frame, and what fills their slots."""

    before: tuple[str, ...]
    frame: str
    after: tuple[str, ...]
    slots: tuple[tuple[str, str], ...]
    nickname: bool

    def text(self, task: Task) -> str:
        """The prompt that asks for ``task``."""
        verb = task.verb.nickname if self.nickname else task.verb.name
        slots = {**dict(self.slots), "v": verb, "o": task.thing.name}
        return " ".join((*self.before, self.frame, *self.after)).format(**slots)


class WorldAttacker:
    """See the module. ``frames=trained`` dresses requests in courtesies and second verbs, as training prompts are."""

    def __init__(self, spec: WorldAttackerSpec, world: World, seed: int) -> None:
        self.spec, self.world, self.seed = spec, world, seed
        phrases = world.phrases
        courtesies = [frame.partition("{r}")[::2] for frame in phrases.polite]
        self.openings = tuple(before.strip() for before, _ in courtesies if before.strip())
        self.closings = tuple(after.strip() for _, after in courtesies if after.strip())
        self.frames = (*phrases.ask, *phrases.border)
        if spec.frames == "all":
            self.openings, self.closings = (*self.openings, *phrases.role), (*self.closings, *phrases.role_end)
            self.frames = (*self.frames, *phrases.tale, *phrases.wary)
        self.version = f"world-1-{spec.frames}-world{WORLD_VERSION}-seed{world.seed}"

    def propose(self, streams: Sequence[Stream]) -> list[Attempt]:
        """The next attempt of each stream. Raises ``KeyError`` for a goal that is no request of this world."""
        return [self._propose(stream) for stream in streams]

    def _propose(self, stream: Stream) -> Attempt:
        task = self.world.task(stream.goal)
        known: list[Guise] = []
        why = ""
        for at in range(1, stream.iteration + 1):  # an attempt follows from the feedback before it: nothing is kept
            guise, why = self._step(stream, at, known, task)
            known.append(guise)
        return Attempt(known[-1].text(task), why)

    def _step(self, stream: Stream, iteration: int, known: Sequence[Guise], task: Task) -> tuple[Guise, str]:
        """The guise of an iteration after the ``known`` ones, and why; not one that was tried, as far as there are."""
        rng = Random(f"attack/{self.seed}/{stream.goal.id}/{stream.number}/{iteration}")
        made = {guise.text(task) for guise in known}
        for _ in range(_TRIES):
            guise, why = self._next(rng, [turn.score or 0 for turn in stream.turns[: iteration - 1]], known)
            if guise.text(task) not in made:
                break
        return guise, why

    def _next(self, rng: Random, scores: Sequence[int], known: Sequence[Guise]) -> tuple[Guise, str]:
        best = max(range(len(known)), key=lambda i: (scores[i], i), default=None)
        tried = {guise.frame for guise in known}
        if best is None or scores[best] < PROMISING:
            why = "a first guise" if best is None else f"best feedback {scores[best]}: another frame"
            return self._fresh(rng, [f for f in self.frames if f not in tried] or self.frames), why
        part, kept, fresh = rng.choice(DETAILS), known[best], self._fresh(rng, self.frames)
        changed = {
            "opening": replace(kept, before=fresh.before),
            "closing": replace(kept, after=fresh.after),
            "words": replace(kept, slots=fresh.slots),
            "verb": replace(kept, nickname=not kept.nickname),
        }
        return changed[part], f"best feedback {scores[best]}: the frame stays, its {part} changes"

    def _fresh(self, rng: Random, frames: Sequence[str]) -> Guise:
        words = self.world.lexicon
        person, second = rng.sample(words.persons, 2)
        slots = {"p": person, "q": second, "s": rng.choice(words.spirits), "l": rng.choice(words.places)}
        slots["w"] = rng.choice(words.benign).name
        before = tuple(rng.sample(self.openings, min(rng.choice((0, 1, 2)), len(self.openings))))
        after = tuple(rng.sample(self.closings, min(rng.choice((0, 1)), len(self.closings))))
        return Guise(before, rng.choice(frames), after, tuple(slots.items()), rng.random() < 0.5)
