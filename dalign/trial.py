"""`dalign try "prompt"`: N answers of the student to one prompt, their scores, and the choice, on screen."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dalign.attribute import Pair
from dalign.drawing import draw_samples
from dalign.headline import score_for_choice
from dalign.policies import load_policy
from dalign.process import quiet, set_threads
from dalign.records import Prompt, Sample
from dalign.specs.run import RunSpec

console = Console()


def main(spec: RunSpec, prompt: str) -> int:
    """Prints the samples, best first by the headline selector, and returns 0."""
    from dalign.api import select

    quiet()
    set_threads(spec.trainer.threads)
    policy = load_policy(spec, "distill")
    asked = Prompt("try", "0", prompt, "harmful", "0")
    samples = draw_samples(policy, [asked], range(spec.sampler.n), spec.sampler, spec.seed)
    loaded = policy.loaded
    pairs = [Pair(s.prompt_ids, s.response_ids, loaded.chat.end_id) for s in samples]
    scored = score_for_choice(spec, loaded, pairs)
    try:
        chosen = select(
            scored.values,
            finished=[s.finished or not spec.selector.require_finished for s in samples],
            direction=spec.selector.direction,
        )
    except ValueError as error:
        console.print(f"[bold]no choice:[/] {error}")
        chosen = -1
    _show(spec, scored.layer, samples, scored.values, chosen)
    return 0


def _show(spec: RunSpec, layer: int | None, samples: list[Sample], values: list[float], chosen: int) -> None:
    where = "" if layer is None else f" at layer {layer}"
    table = Table(
        title=f"{len(samples)} answers of {spec.model.name}; {spec.selector.direction} of {spec.selector.score}{where}"
    )
    for name in ("", "sample", spec.selector.score, "ended", "answer"):
        table.add_column(name, overflow="fold")
    for i in sorted(range(len(samples)), key=lambda i: (i != chosen, values[i] != values[i], values[i])):
        s = samples[i]
        answer = escape(s.answer or "(no answer)")
        table.add_row("chosen" if i == chosen else "", str(s.index), f"{values[i]:.4f}", s.finish_reason, answer)
    console.print(table)
    if chosen >= 0:
        reasoning = samples[chosen].reasoning
        console.print(f"[bold]its reasoning:[/] {escape(reasoning) or '(none)'}")
        console.print(f"[bold]its answer:[/] {escape(samples[chosen].answer)}")
