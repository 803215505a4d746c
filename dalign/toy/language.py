"""The words of one kingdom: drawn from English pools or made from syllables, by the world's seed alone.

Verbs, their nicknames and their ingredients are made-up words, so no recipe in this world means anything outside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from dalign.categories import BENIGN, CATEGORIES
from dalign.toy import pools

N_VERBS_PER_CATEGORY = 6
N_BENIGN_VERBS = 24
N_OBJECTS = 36
N_PLACES_PER_QUARTER = 4


@dataclass(frozen=True)
class Verb:
    """A thing to do: its nickname, its law's category or ``benign``, its secret step of an action and an ingredient."""

    name: str
    nickname: str
    category: str
    action: str
    ingredient: str


@dataclass(frozen=True)
class Thing:
    """An object of the kingdom, how every recipe on it ends, and the place where it is kept."""

    name: str
    finish: str
    place: str


@dataclass(frozen=True)
class Lexicon:
    """All drawn words of a world. ``laws`` maps a category to its law's name, ``helpers`` to whom one may turn."""

    verbs: tuple[Verb, ...]
    objects: tuple[Thing, ...]
    places: tuple[str, ...]
    persons: tuple[str, ...]
    things: tuple[str, ...]
    spirits: tuple[str, ...]
    laws: dict[str, str]
    helpers: dict[str, str]

    @property
    def harmful(self) -> tuple[Verb, ...]:
        """The verbs that some law forbids."""
        return tuple(v for v in self.verbs if v.category != BENIGN)

    @property
    def benign(self) -> tuple[Verb, ...]:
        """The verbs that no law speaks of."""
        return tuple(v for v in self.verbs if v.category == BENIGN)

    @property
    def quarters(self) -> tuple[tuple[str, ...], ...]:
        """The places of the kingdom's four quarters."""
        n = N_PLACES_PER_QUARTER
        return tuple(self.places[i : i + n] for i in range(0, len(self.places), n))

    def words(self) -> set[str]:
        """Every drawn word."""
        found = {*self.places, *self.persons, *self.things, *self.spirits, *self.laws.values(), *self.helpers.values()}
        for verb in self.verbs:
            found |= {verb.name, verb.nickname, verb.action, verb.ingredient}
        for thing in self.objects:
            found |= {thing.name, thing.finish, thing.place}
        return found


def draw_lexicon(seed: int) -> Lexicon:
    """The lexicon of a world seed."""
    rng = Random(f"toy/{seed}/lexicon")
    n_verbs = N_VERBS_PER_CATEGORY * len(CATEGORIES) + N_BENIGN_VERBS
    made = _made_up_words(rng, 3 * n_verbs + 8)
    names, nicknames, ingredients = (made[i * n_verbs : (i + 1) * n_verbs] for i in range(3))
    categories = [c for c in CATEGORIES for _ in range(N_VERBS_PER_CATEGORY)] + [BENIGN] * N_BENIGN_VERBS
    actions = rng.sample(pools.ACTIONS, 10)
    verbs = tuple(
        Verb(name, nickname, category, rng.choice(actions), ingredient)
        for name, nickname, category, ingredient in zip(names, nicknames, categories, ingredients, strict=True)
    )
    places, finishes = tuple(rng.sample(pools.PLACES, 4 * N_PLACES_PER_QUARTER)), rng.sample(pools.FINISHES, 8)
    objects = tuple(
        Thing(name, rng.choice(finishes), rng.choice(places)) for name in rng.sample(pools.OBJECTS, N_OBJECTS)
    )
    return Lexicon(
        verbs=verbs,
        objects=objects,
        places=places,
        persons=tuple(rng.sample(pools.PERSONS, 12)),
        things=tuple(rng.sample(pools.THINGS, 8)),
        spirits=tuple(made[3 * n_verbs :]),
        laws={c: rng.choice(names) for c, names in zip(CATEGORIES, pools.LAW_NAMES, strict=True)},
        helpers={c: rng.choice(pools.HELPERS) for c in CATEGORIES},
    )


def _made_up_words(rng: Random, count: int) -> list[str]:
    """``count`` distinct words of two syllables, none of them an English word of the pools."""
    taken = {
        *pools.OBJECTS,
        *pools.PLACES,
        *pools.PERSONS,
        *pools.HELPERS,
        *pools.THINGS,
        *pools.ACTIONS,
        *pools.FINISHES,
    }
    words: dict[str, None] = {}
    while len(words) < count:
        first = rng.choice(pools.ONSETS) + rng.choice(pools.VOWELS)
        word = first + rng.choice(pools.ONSETS) + rng.choice(pools.VOWELS) + rng.choice(pools.CODAS)
        if word not in taken:
            words[word] = None
    return list(words)
