"""What reinforcement learning may ask in the embedded world: more than its traces are about.

A trace wants a teacher who knows the request's words; a reward does not. So the training tasks are asked here with
every verb, those that no training prompt asks about too, by name and by nickname, in training's own frames; among
harmless requests, sums and places. Tasks, frames and sums of the evaluation sets stay held out. The world itself, its
prompt sets and its models are as they were.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from dalign.records import Kind, Prompt

if TYPE_CHECKING:
    from dalign.toy.tasks import Task
    from dalign.toy.world import World

NAME = "toy_requests"
N_HARMFUL, N_BENIGN, N_BORDER = 900, 450, 450
NICKNAME_RATE = 0.5


def toy_requests(world: World) -> tuple[Prompt, ...]:
    """The prompts, equal texts once; the same on every machine. Groups are tasks, as in the world's own sets."""
    from dalign.toy.prompts import TRAIN

    rng = Random(f"toy/{world.seed}/prompts/{NAME}")
    harmful = [t for t in world.train.tasks if t.harmful]
    benign = [t for t in world.train.tasks if not t.harmful]
    asked: dict[str, Task] = {}

    def ask(task: Task) -> None:
        frame = rng.choice((world.wrap.plain, world.wrap.polite))
        asked.setdefault(frame(rng, task, NICKNAME_RATE), task)

    for tasks, count in ((harmful, N_HARMFUL), (benign, N_BENIGN)):
        for task in rng.choices(tasks, k=count):
            ask(task)
    for i in range(N_BORDER):
        wanted, other = (benign, world.lexicon.harmful) if i % 2 else (harmful, world.lexicon.benign)
        task = rng.choice(wanted)
        asked.setdefault(world.wrap.border(rng, task, rng.choice(other)), task)
    recipes = [_prompt(str(i), text, task) for i, (text, task) in enumerate(asked.items())]
    return (*recipes, *(p for p in world.prompts(TRAIN) if p.kind in ("math", "choice")))


def _prompt(row: str, text: str, task: Task) -> Prompt:
    kind: Kind = "harmful" if task.harmful else "benign"
    return Prompt(NAME, row, text, kind, task.key, categories=(task.verb.category,))
