"""What the teacher is asked: an instruction, the policies of the prompt's categories, and the question.

The messages go through the teacher's own chat template (``Chat``). The policies are in its context alone: traces keep
their names, and students never see their text (context distillation).
"""

from __future__ import annotations

from dalign.categories import KNOWN, known_category
from dalign.chat import Message
from dalign.records import Prompt
from dalign.specs.model import TOY_IDS
from dalign.specs.stage import TeacherSpec
from dalign.traces.policies import instruction, policy


def policies_of(teacher: TeacherSpec, prompt: Prompt) -> tuple[str, ...]:
    """The categories whose policies the teacher is given: the prompt's own; all of them where it names none; none under
    ``teacher.system=none``.

    Raises ``DataError`` for an unknown category.
    """
    if teacher.system == "none":
        return ()
    return tuple(known_category(c, f"{prompt.dataset} row {prompt.row}") for c in prompt.categories) or KNOWN


def teacher_messages(teacher: TeacherSpec, prompt: Prompt, *, world_seed: int) -> list[Message]:
    """The conversation up to the teacher's turn; ``teacher.system`` says where instruction and policies are.

    The embedded world's models get the kingdom's policies, any other those of this package.
    """
    if teacher.system == "none":
        return [{"role": "user", "content": prompt.text}]
    context = _context(teacher, prompt, world_seed)
    if teacher.system == "system":
        return [{"role": "system", "content": context}, {"role": "user", "content": prompt.text}]
    return [{"role": "user", "content": f"{context}\n\n# Request of the user\n\n{prompt.text}"}]


def _context(teacher: TeacherSpec, prompt: Prompt, world_seed: int) -> str:
    categories = policies_of(teacher, prompt)
    if teacher.id in TOY_IDS:
        from dalign.toy.world import World

        return World.of(world_seed).system(categories)
    return "\n\n".join([instruction(), *map(policy, categories)])
