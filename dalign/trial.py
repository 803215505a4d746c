"""`dalign try "prompt"`: N answers of the student to one prompt, their scores, and the choice, on screen."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dalign.attribute import Pair, score_pairs
from dalign.drawing import draw_samples
from dalign.policies import load_policy
from dalign.records import Prompt, Sample
from dalign.select import auto_layer
from dalign.specs.run import RunSpec
from dalign.specs.sampling import SelectorSpec
from dalign.worker import quiet, set_threads

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
    found = score_pairs(loaded, pairs, spec.attribution)
    layer = headline_layer(spec.selector, loaded.n_layers)
    values = [headline(spec.selector, layer, f.layered, f.flat) for f in found]
    try:
        chosen = select(
            values,
            finished=[s.finished or not spec.selector.require_finished for s in samples],
            direction=spec.selector.direction,
        )
    except ValueError as error:
        console.print(f"[bold]no choice:[/] {error}")
        chosen = -1
    _show(spec, layer, samples, values, chosen)
    return 0


def headline_layer(selector: SelectorSpec, n_layers: int) -> int | None:
    """The layer a layered headline score is read at; None for a flat one."""
    return auto_layer(n_layers) if selector.layer == "auto" else selector.layer


def headline(
    selector: SelectorSpec, layer: int | None, layered: dict[str, list[float]], flat: dict[str, float]
) -> float:
    """The headline selector's score of one sample, NaN if it has none."""
    if selector.score in layered and layer is not None:
        return layered[selector.score][layer]
    return flat.get(selector.score, float("nan"))


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
