"""Command lines of up to five overrides, sound ones and damaged ones, held against Hydra's own composition.

An accepted line composes to the very spec that the check returned, with every value that it gives in its place; a
refused one is told by a key, or the words, of an override that it was given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal

import mutate
import yaml
from holding import expect
from hydra import compose, initialize_config_dir

from dalign.config import bind, config_dir, prepare
from dalign.config.commandline import VERSION_BASE
from dalign.errors import ConfigError
from dalign.specs.run import RunSpec

Verb = Literal["train", "evaluate"]
Values = Callable[[Random], object]
SOUND_SHARE = 0.6


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as a text."""
    return tuple(text.split())


def one_of(text: str) -> Values:
    """One of the words of ``text``."""
    return lambda rng: rng.choice(words(text))


def some_of(text: str) -> Values:
    """A list of one to all words of ``text``, each once."""
    every = words(text)
    return lambda rng: f"[{','.join(rng.sample(every, rng.randint(1, len(every))))}]"


def whole(low: int, high: int) -> Values:
    """A whole number."""
    return lambda rng: rng.randint(low, high)


def number(low: float, high: float) -> Values:
    """A number of four digits."""
    return lambda rng: round(rng.uniform(low, high), 4)


SHARED: Mapping[str, Values] = {
    "seed": whole(0, 2**31),
    "world_seed": whole(0, 4),
    "limit": lambda rng: rng.choice((1, 7, 10**6, "null")),
    "run": one_of("a b-1 study/one 2026.11 lr=1e-3"),
    "sampler.n": whole(1, 64),
    "sampler.temperature": number(0, 2),
    "sampler.top_p": number(0.01, 1),
    "sampler.engine.rows": whole(1, 512),
    "model.lora.r": whole(1, 256),
    "model.lora.dropout": number(0, 0.9),
    "model.lora.targets": one_of("all-linear [q_proj,v_proj] []"),
    "model.dtype": one_of("float32 bfloat16 float16"),
    "trainer.threads": whole(0, 8),
    "sampler": one_of("bon8 single"),
    "attribution": one_of("all readouts"),
    "paths.runs": one_of("runs /tmp/elsewhere"),
    "debug": one_of("tiny"),
}
OWN: Mapping[Verb, Mapping[str, Values]] = {
    "train": {
        "stage.filter.max_p_unsafe": number(0.01, 1),
        "stage.filter.judge": one_of("true false"),
        "stage.filter.max_chars": whole(1, 10**5),
    },
    "evaluate": {
        "policies": some_of("teacher base distill"),
        "benchmark": some_of("toy_dan toy_gsm8k toy_mmlu toy_strongreject toy_xstest"),
        "selector": one_of("similarity kl perplexity self_certainty random probe medoid refusal refusal_vote"),
        "report.samples": whole(0, 10**5),
        "report.texts": one_of("true false"),
        "protocol": one_of("corrected prefilled"),
        "attribution.position": one_of("content eos mean"),
        "judge@judges.harm": one_of("toy_guard"),
    },
}
KEYS = words("""model sampler.n benchmark policies judge@judges.harm seed stage.lr selector.layer model.lora.r limit
attribution.layers run paths.runs nonsense model.think +x.y ~judge""")
VALUES = ("", " ", "\u2028", "x" * 300)
VALUES += words("""toy 8 -1 0 1e9 nan inf null [] {} [toy_dan] [a,[b {a:1} ' " ${oc.env:HOME} ${nope} ${eval:1} ??? true
é a=b ../.. 1,2 \\ [base,base] \u200b""")


def command_line(rng: Random, folder: Path) -> bool:
    """A line of either command: accepted, and what it says; or refused, and why."""
    verb: Verb = rng.choice(("train", "evaluate"))
    argv = _sound(verb, rng)
    if rng.random() > SOUND_SHARE:
        argv = _spoilt(argv, rng)
    try:
        line, specs = prepare(verb, argv)
    except ConfigError as error:
        names = [name for text in argv for name in _names(text)] + ["stage"] * (verb == "train")
        expect(any(name in str(error) for name in names), f"{verb} {argv} refused without a key of it: {error}")
        return False
    expect(len(specs) == 1, f"{argv}: {len(specs)} specs without a sweep")
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(config_dir())):
        composed = bind(compose(verb, overrides=line.overrides))
    expect(composed == specs[0], f"{argv}: Hydra composes another configuration")
    for text in argv:
        _holds(specs[0], text, argv)
    return True


def _sound(verb: Verb, rng: Random) -> list[str]:
    """Overrides with valid values, each key once, a group before what is below it."""
    known = {**SHARED, **OWN[verb]}
    argv = [f"{key}={known[key](rng)}" for key in sorted(rng.sample(sorted(known), rng.randint(1, 4)))]
    return ["stage=traces", *argv] if verb == "train" else argv


def _spoilt(argv: Sequence[str], rng: Random) -> list[str]:
    """The line with an override damaged, or with one more that is likely wrong."""
    if rng.random() < 0.3:
        at = rng.randrange(len(argv))
        return [*argv[:at], mutate.damaged(argv[at].encode(), rng).decode(errors="replace"), *argv[at + 1 :]]
    return [*argv, f"{rng.choice(KEYS)}={rng.choice(VALUES)}"]


def _names(text: str) -> list[str]:
    """What a message may call an override by: its key, the group or the package in it, or the whole of it."""
    key = text.partition("=")[0].lstrip("+~")
    return [name for name in (*key.split("@"), key.partition(".")[0], text) if name.strip()] or ["an empty word"]


def _holds(spec: RunSpec, text: str, argv: Sequence[str]) -> None:
    """An override of a plain value stands in the spec, unless a later one of its key does."""
    key, found, value = text.partition("=")
    last = next(other for other in reversed(argv) if other.partition("=")[0] == key)
    at: Any = spec.model_dump(mode="json")
    for part in key.lstrip("+").split("."):
        if not isinstance(at, dict) or part not in at:
            return
        at = at[part]
    if found and last == text and not isinstance(at, dict) and "${" not in value:
        expect(_same(at, value), f"{text} of {argv} became {at!r}")


def _same(at: object, value: str) -> bool:
    """Whether a field holds what a command line says: the words themselves, or the value that YAML reads in them."""
    if str(at) in (value, value.strip(), value.strip().strip("'\"")):
        return True
    with contextlib.suppress(ValueError, TypeError):
        return float(str(at)) == float(value)
    with contextlib.suppress(yaml.YAMLError):
        return at == yaml.safe_load(value)
    return False
