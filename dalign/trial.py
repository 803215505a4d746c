"""`dalign try "prompt"`: N answers of the student to one prompt, their scores, and the choice, on screen."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dalign.attribute import Pair
from dalign.drawing import draw_samples
from dalign.errors import ConfigError
from dalign.headline import Ranked, rank
from dalign.policies import load_policy
from dalign.process import quiet, set_threads
from dalign.records import Prompt, Sample
from dalign.specs.run import RunSpec

console = Console()


def main(spec: RunSpec, prompt: str) -> int:
    """Prints the samples, best first by the headline selector, and returns 0. ``ConfigError`` for an empty prompt."""
    if not prompt.strip():
        raise ConfigError("the prompt is empty; give one user turn, in quotes")
    quiet()
    set_threads(spec.trainer.threads)
    policy = load_policy(spec, "distill")
    asked = Prompt("try", "0", prompt, "harmful", "0")
    samples = draw_samples(policy, [asked], range(spec.sampler.n), spec.sampler, spec.seed)
    loaded = policy.loaded
    pairs = [Pair(s.prompt_ids, s.response_ids, loaded.chat.end_id, s.closed) for s in samples]
    _show(spec, samples, rank(spec, loaded, pairs, [s.finished for s in samples]))
    return 0


def _show(spec: RunSpec, samples: list[Sample], ranked: Ranked) -> None:
    by, values, chosen = spec.selector.score, ranked.values, ranked.chosen
    where = "" if ranked.layer is None else f" at layer {ranked.layer}"
    rule = by if values is None else f"{spec.selector.direction} of {by}{where}"
    table = Table(title=f"{len(samples)} answers of {spec.model.name}; {rule}")
    for name in ("", "sample", *([] if values is None else [by]), "tokens", "ended", "answer"):
        table.add_column(name, overflow="fold")
    for i in [*ranked.order, *(i for i in range(len(samples)) if i not in ranked.order)]:
        s = samples[i]
        value = [] if values is None else [f"{values[i]:.4f}"]
        answer = escape(s.answer or "(no answer)")
        mark = "chosen" if i == chosen else ""
        table.add_row(mark, str(s.index), *value, str(len(s.response_ids)), s.finish_reason, answer)
    console.print(table)
    if chosen is None:
        console.print("[bold]no choice:[/] no sample is finished and scored; draw more, or allow more new tokens")
        return
    console.print(f"[bold]its reasoning:[/] {escape(samples[chosen].reasoning) or '(none)'}")
    console.print(f"[bold]its answer:[/] {escape(samples[chosen].answer)}")
