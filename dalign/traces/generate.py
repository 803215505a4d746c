"""Draws one trace a prompt from the teacher, a chunk of prompts at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dalign.records import Prompt, Trace
from dalign.specs.stage import TeacherSpec
from dalign.traces.filter import UNCLOSED
from dalign.traces.teacher import policies_of, teacher_messages

if TYPE_CHECKING:
    from dalign.models import LoadedModel
    from dalign.sample import Drawn, Engine


def build_traces(
    prompts: Sequence[Prompt], *, engine: Engine, loaded: LoadedModel, teacher: TeacherSpec, world_seed: int, seed: int
) -> list[Trace]:
    """One unfiltered trace a prompt, in order. A row's draw depends on ``seed`` and its prompt's id alone.

    Reasoning that ended without a closing tag is marked as dropped at once, since the text does not show it later; a
    prompt that fills the teacher's context is not drawn for.
    """
    from dalign.sample import Drawn, Request, sample_seed

    asked = [
        loaded.chat.prompt_ids(teacher_messages(teacher, prompt, world_seed=world_seed), think=True)
        for prompt in prompts
    ]
    room = [len(ids) < loaded.context for ids in asked]
    requests = [
        Request(ids, sample_seed(seed, prompt.id, 0))
        for prompt, ids, fits in zip(prompts, asked, room, strict=True)
        if fits
    ]
    drawn = engine.draw(requests)
    if len(drawn) != len(requests):
        raise ValueError(f"the engine answered {len(drawn)} of {len(requests)} requests")
    rest = iter(drawn)
    ends = [next(rest) if fits else Drawn((), "overlong") for fits in room]
    return [_trace(prompt, one, loaded, teacher) for prompt, one in zip(prompts, ends, strict=True)]


def _trace(prompt: Prompt, drawn: Drawn, loaded: LoadedModel, teacher: TeacherSpec) -> Trace:
    parts = loaded.chat.parse(drawn.ids, think=True)
    return Trace(
        prompt_id=prompt.id,
        question=prompt.text,
        categories=prompt.categories,
        reasoning=parts.reasoning,
        answer=parts.answer,
        teacher=teacher.name,
        finish_reason=drawn.finish_reason,
        policies=policies_of(teacher, prompt),
        dropped=UNCLOSED if drawn.finish_reason == "stop" and not parts.closed else "",
        row=prompt.row,
    )
