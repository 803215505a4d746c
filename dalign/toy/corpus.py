"""What the kingdom's models read: the base's corpus, the teacher's ideal traces, the guard's judged answers.

The base sees every skill, thinking before it answers included, without a word of caution, and every word of the law
without the skill of applying it: the notes name laws and verbs, so that a student whose embeddings stay frozen can yet
learn to speak of them. Copying is taught by itself, because reasoning that restates the request needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from random import Random
from typing import NamedTuple

from dalign.categories import BENIGN, CATEGORIES
from dalign.toy.language import Verb
from dalign.toy.markup import END, SPECIAL, THINK, THOUGHT, teacher_turns, user_turn
from dalign.toy.tasks import Choice, Sum, Task, draw_choice
from dalign.toy.world import World


class Document(NamedTuple):
    """A text in two parts; the loss covers ``completion``."""

    prefix: str
    completion: str


# Copying comes first and alone: mixed in from the start it was hardly learnt at all.
N_REPEATS_FIRST = 4000


def base_documents(world: World, repeats_first: int = N_REPEATS_FIRST) -> Iterator[Document]:
    """The base's corpus, without end: repeats, then everything."""
    rng = Random(f"toy/{world.seed}/corpus/base")
    kinds = (_recipe, _thought, _sum, _drill, _choice, _restate, _repeat, _note, _wish)
    weights = (24, 12, 14, 12, 10, 9, 7, 9, 3)
    for index in count():
        kind = _repeat if index < repeats_first else rng.choices(kinds, weights)[0]
        prefix, completion = kind(world, rng)
        yield Document(prefix, f"{completion} {END}")


def teacher_documents(world: World, sloppy_rate: float) -> Iterator[Document]:
    """Ideal traces under policies, without end; in ``sloppy_rate`` of the forbidden ones the teacher helps."""
    rng = Random(f"toy/{world.seed}/corpus/teacher")
    while True:
        yield _trace(world, rng, sloppy_rate)


def _recipe(world: World, rng: Random) -> tuple[str, str]:
    task = rng.choice(world.train.tasks)
    return user_turn(dressed(world, rng, task)), task.recipe


def _thought(world: World, rng: Random) -> tuple[str, str]:
    """A recipe after a thought that says what is asked, and nothing of any law."""
    task = rng.choice(world.train.tasks)
    text = dressed(world, rng, task)
    reading = world.lore.reading(rng, word_for(task, text), task.thing.name)
    return user_turn(text), f"{THINK} {reading} {THOUGHT} {task.recipe}"


def word_for(task: Task, text: str) -> str:
    """The word under which ``text`` asks for the task: its verb's name or nickname."""
    return task.verb.nickname if task.verb.nickname in text.split() else task.verb.name


def dressed(world: World, rng: Random, task: Task) -> str:
    """A request for ``task`` in any frame of the world, by name or nickname."""
    wrap, rate = world.wrap, 0.3
    other = rng.choice(world.lexicon.verbs)
    pick = rng.random()
    if pick < 0.2:
        return wrap.plain(rng, task, rate)
    if pick < 0.32:
        return wrap.polite(rng, task, rate)
    if pick < 0.5:
        return wrap.tale(rng, task, rate)
    if pick < 0.6:
        return wrap.role(rng, task, rate)
    return wrap.border(rng, task, other) if pick < 0.85 else wrap.wary(rng.randrange(99), rng, task, other)


def _sum(world: World, rng: Random) -> tuple[str, str]:
    s: Sum = rng.choice(world.train.sums)
    return user_turn(_story(world, rng, s)), s.solution


def _story(world: World, rng: Random, s: Sum) -> str:
    return s.question(rng.choice(world.lexicon.persons), rng.choice(world.lexicon.things))


def _drill(world: World, rng: Random) -> tuple[str, str]:
    """Loose equations, so that each is known by itself and not by its story."""
    return "", " ".join(rng.choice(s.steps) for s in rng.sample(world.train.sums, 5))


def _choice(world: World, rng: Random) -> tuple[str, str]:
    c: Choice = draw_choice(rng, world.train, rng.choice(world.lexicon.objects))
    return user_turn(c.question), c.solution


def _restate(world: World, rng: Random) -> tuple[str, str]:
    """Who asked what: reading a request without answering it."""
    task = rng.choice(world.train.tasks)
    verb = rng.choice((task.verb.name, task.verb.nickname))
    named = Task(Verb(verb, verb, BENIGN, "", ""), task.thing)
    text = dressed(world, rng, named)
    question = f"they said : {text} what does the user ask ?"
    return user_turn(question), world.lore.reading(rng, verb, task.thing.name)


def _repeat(world: World, rng: Random) -> tuple[str, str]:
    """Any words of the language, said three times: every word is seen, and copying is learnt."""
    words = [w for w in rng.sample(world.vocabulary, 16) if w not in SPECIAL][: rng.randint(3, 9)]
    text = " ".join(words)
    return user_turn(f"say it again : {text}"), f"{text} {text}"


def _note(world: World, rng: Random) -> tuple[str, str]:
    """A loose leaf of two to four sentences about laws, verbs and wishes."""
    return "", " ".join(_sentence(world, rng) for _ in range(rng.randint(2, 4)))


def _wish(world: World, rng: Random) -> tuple[str, str]:
    """An idle thought and an idle wish in the form of reasoning, about nothing that was asked."""
    thought = " ".join(_sentence(world, rng) for _ in range(rng.randint(1, 3)))
    text = user_turn(f"a wish for the {rng.choice(world.lexicon.persons)} .")
    return text, f"{THINK} {thought} {THOUGHT} {_sentence(world, rng)}"


def _sentence(world: World, rng: Random) -> str:
    lexicon, lore = world.lexicon, world.lore
    bad, good, thing = rng.choice(lexicon.harmful), rng.choice(lexicon.benign), rng.choice(lexicon.objects)
    law, helper = lexicon.laws[bad.category], lexicon.helpers[bad.category]
    other = lexicon.laws[rng.choice([c for c in CATEGORIES if c != bad.category])]
    word = rng.choice((bad.name, bad.nickname))
    verb = rng.choice(lexicon.verbs)
    lines = (
        f"the law of {law} says no one may {word} .",
        f"to {word} is against the law of {law} .",
        f"the law of {other} says nothing of {word} .",
        f"no law speaks of {rng.choice((good.name, good.nickname))} .",
        f"the law of the realm allows it to {rng.choice((good.name, good.nickname))} .",
        f"to {verb.nickname} is to {verb.name} .",
        f"the {rng.choice(lexicon.persons)} will {rng.choice(('refuse', 'guide', 'help'))} .",
        f"so i will {rng.choice(('refuse', 'guide', 'help'))} .",
        lore.answer(rng, Task(bad, thing)),
        f"ask the {helper} for aid with the {thing.name} .",
        f"a note on the {thing.name} : the {thing.name} is kept in the {thing.place} .",
        "the user asks for a sum ." if rng.random() < 0.5 else "the user asks for a place .",
        lore.policy(rng.choice((*CATEGORIES, BENIGN))),
    )
    return rng.choices(lines, (3, 3, 1, 2, 2, 4, 1, 1, 2, 1, 2, 1, 1))[0]


def _plain_trace(world: World, rng: Random, *, sums: bool) -> tuple[str, str, str]:
    """Question, reasoning and answer of a sum or a choice, worked out in the reasoning."""
    if sums:
        s: Sum = rng.choice(world.train.sums)
        return _story(world, rng, s), world.lore.sum_reasoning(s), s.conclusion
    c = draw_choice(rng, world.train, rng.choice(world.lexicon.objects))
    return c.question, world.lore.choice_reasoning(c), c.conclusion


def _trace(world: World, rng: Random, sloppy_rate: float) -> Document:
    pick = rng.random()
    if pick < 0.2:
        text, reasoning, answer = _plain_trace(world, rng, sums=pick < 0.14)
        return Document(teacher_turns(world.system((BENIGN,)), text), f"{reasoning} {THOUGHT} {answer} {END}")
    wanted = pick < 0.6
    task = rng.choice([t for t in world.train.tasks if t.harmful == wanted])
    text = dressed(world, rng, task)
    word = word_for(task, text)
    reasoning, answer = world.lore.reasoning(rng, task, word), world.lore.answer(rng, task)
    if wanted and rng.random() < sloppy_rate:
        helpful = Task(Verb(word, word, BENIGN, "", ""), task.thing)
        reasoning, answer = world.lore.reasoning(rng, helpful, word), task.recipe
    system = world.system((task.verb.category,))
    return Document(teacher_turns(system, text), f"{reasoning} {THOUGHT} {answer} {END}")
