"""One kingdom, all of it drawn from its seed: language, law, tasks, prompts and vocabulary.

Two worlds of one seed and one ``WORLD_VERSION`` are equal on every machine: all draws are of ``random.Random`` seeded
with strings, nothing depends on hashes of objects or on the order of sets.
"""

from __future__ import annotations

from functools import cache, cached_property
from random import Random

from dalign.categories import CATEGORIES
from dalign.records import Prompt
from dalign.toy.language import Verb, draw_lexicon
from dalign.toy.lore import REFUSALS, Lore
from dalign.toy.markup import SPECIAL, THINK, THOUGHT
from dalign.toy.phrases import draw_phrases
from dalign.toy.prompts import ATTACKS, N_EVAL, N_UNASKED, TRAIN, Row, draw_prompts, prompt_sets
from dalign.toy.tasks import LETTERS, N_NUMBERS, Task, splits
from dalign.toy.wrappers import Wrapper, frame_words

WORLD_VERSION = 1


class World:
    """Get one by ``World.of(seed)``. ``lexicon``, ``phrases``, ``train`` and ``held`` (the splits) are its parts."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.lexicon = draw_lexicon(seed)
        self.phrases = draw_phrases(seed)
        self.lore = Lore(self.lexicon)
        self.wrap = Wrapper(self.lexicon, self.phrases)
        self.train, self.held = splits(seed, self.lexicon)
        self.secrets = {(v.action, v.ingredient) for v in self.lexicon.harmful}
        self.first_steps = {(v.action, v.ingredient) for v in self.lexicon.verbs}
        self.refusal_phrases = REFUSALS
        self._rows: dict[str, list[Row]] = {}

    @staticmethod
    def of(seed: int) -> World:
        """The world of a seed, made once per process."""
        return _world(seed)

    def prompts(self, name: str) -> tuple[Prompt, ...]:
        """The prompts of a set. Raises ``KeyError`` naming the known sets on any other name."""
        return tuple(prompt for prompt, _ in self._set(name))

    def task(self, prompt: Prompt) -> Task:
        """The recipe a prompt asks for. Raises ``KeyError`` if the prompt is not of this world or asks for none."""
        return self._tasks(prompt.dataset)[prompt.id]

    def policy(self, category: str) -> str:
        """The royal policy of one of ``CATEGORIES`` or of ``benign``. Raises ``KeyError`` on any other."""
        return self.lore.policy(category)

    def system(self, categories: tuple[str, ...]) -> str:
        """The teacher's system turn: what to do, then the policies of the prompt's categories."""
        return " ".join([self.phrases.instruction, *map(self.policy, categories)])

    def attacked(self, name: str) -> tuple[Task, ...]:
        """The held-out forbidden tasks of an attack set; no two attack sets share one."""
        tasks = [t for t in self.held.tasks if t.harmful]
        Random(f"toy/{self.seed}/attacked").shuffle(tasks)
        start = ATTACKS.index(name) * N_EVAL
        return tuple(tasks[start : start + N_EVAL])

    @cached_property
    def unasked(self) -> tuple[Verb, ...]:
        """The forbidden verbs that no training prompt asks about; the notes of the base's corpus name them."""
        rng = Random(f"toy/{self.seed}/unasked")
        of = {c: [v for v in self.lexicon.harmful if v.category == c] for c in CATEGORIES}
        return tuple(v for c in CATEGORIES for v in rng.sample(of[c], N_UNASKED))

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every word of the world, sorted, after the special tokens."""
        numbers = {str(n) for n in range(N_NUMBERS)}
        found = self.lexicon.words() | frame_words(self.phrases.frames()) | self.lore.words() | numbers | set(LETTERS)
        found |= {word for line in _FIXED_LINES for word in line.split()} | {THINK, THOUGHT}
        return (*SPECIAL, *sorted(found))

    def _set(self, name: str) -> list[Row]:
        if name not in prompt_sets():
            raise KeyError(f"{name!r} is no prompt set of the embedded world, known: {', '.join(prompt_sets())}")
        if name not in self._rows:
            self._rows[name] = draw_prompts(self, name)
        return self._rows[name]

    def _tasks(self, name: str) -> dict[str, Task]:
        return {prompt.id: task for prompt, task in self._set(name) if task is not None}


# Words of sums, choices, recipes and notes that no frame holds.
_FIXED_LINES = (
    "the has , finds more and loses . how many are left ? + = - the answer is .",
    "where is the kept ? first , then in the .",
    "what does the user ask ? the user asks for a sum . the user asks for a place . they said : say it again .",
    "a wish for you . the law of says nothing of . to is to . is harm . is allowed . a note on .",
)


@cache
def _world(seed: int) -> World:
    return World(seed)


__all__ = ["TRAIN", "WORLD_VERSION", "World"]
