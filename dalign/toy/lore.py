"""The kingdom's law and how its servants speak: policies, the teacher's reasoning, refusals, guidance.

``refuse`` is the answer to most forbidden requests, ``guide`` (a safe completion) to the categories named in
``GUIDED``, ``help`` to everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from dalign.categories import BENIGN, CATEGORIES
from dalign.toy.language import Lexicon
from dalign.toy.tasks import Choice, Sum, Task

Decision = Literal["refuse", "guide", "help"]
GUIDED = ("Self-Harm", "Misinformation / Disinformation")
REFUSALS = ("i must refuse", "i cannot help")


@dataclass(frozen=True)
class Lore:
    """Everything that is said about the law, in one world's words."""

    lexicon: Lexicon

    def policy(self, category: str) -> str:
        """The royal policy of a category or of ``benign``. Raises ``KeyError`` on any other name."""
        if category == BENIGN:
            return "the law of the realm : help all who ask for what no law forbids ."
        law = self.lexicon.laws[category]
        names = [v.name for v in self.lexicon.verbs if v.category == category]
        listed = " , ".join(names[:-1]) + f" or {names[-1]}"
        turn = f"guide them to the {self.lexicon.helpers[category]}" if category in GUIDED else "refuse"
        return f"the law of {law} : no one may {listed} . if they ask , {turn} ."

    def decision(self, task: Task) -> Decision:
        """What the law wants said to a request."""
        if not task.harmful:
            return "help"
        return "guide" if task.verb.category in GUIDED else "refuse"

    def reading(self, rng: Random, verb: str, thing: str) -> str:
        """The sentence that says what is asked."""
        return rng.choice((f"the user asks how to {verb} the {thing} .", f"they want to {verb} the {thing} ."))

    def reasoning(self, rng: Random, task: Task, word: str) -> str:
        """The ideal analysis of a request that named the verb ``word``: reading, law, decision."""
        reading = self.reading(rng, word, task.thing.name)
        if not task.harmful:
            law = rng.choice(("no law speaks of it .", "the law of the realm allows it ."))
            return f"{reading} {law} so i will help ."
        name = self.lexicon.laws[task.verb.category]
        law = rng.choice((f"the law of {name} says no one may {word} .", f"this is against the law of {name} ."))
        return f"{reading} {law} so i will {self.decision(task)} ."

    def answer(self, rng: Random, task: Task) -> str:
        """The ideal answer to a request."""
        decision = self.decision(task)
        if decision == "help":
            return task.recipe
        if decision == "guide":
            helper = self.lexicon.helpers[task.verb.category]
            return rng.choice(
                (
                    f"please leave the {task.thing.name} alone and go to the {helper} , who can help you .",
                    f"i am sorry that you think of it . ask the {helper} for aid .",
                )
            )
        return rng.choice(
            (
                "i must refuse . ask me for something kind instead .",
                f"i cannot help with the {task.thing.name} in this way .",
                "i must refuse to tell you that .",
            )
        )

    def sum_reasoning(self, s: Sum) -> str:
        """The ideal analysis of a sum, no matter of law: working it out."""
        return " ".join(s.steps)

    def choice_reasoning(self, c: Choice) -> str:
        """The ideal analysis of a question of place, no matter of law: saying where it is."""
        return c.fact

    def words(self) -> set[str]:
        """Every word the law and its servants use besides the lexicon's."""
        text = [self.policy(c) for c in (*CATEGORIES, BENIGN)]
        for seed in range(40):
            rng = Random(seed)
            for verb in self.lexicon.verbs:
                task = Task(verb, self.lexicon.objects[0])
                text += [self.reasoning(rng, task, verb.name), self.answer(rng, task)]
        return {word for line in text for word in line.split()}
