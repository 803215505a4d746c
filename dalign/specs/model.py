"""Which checkpoint, how it is loaded, what of it is trained, and how its reasoning is tagged."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from dalign.specs.base import Free, FreeBool, FreeStr, Spec

# What a hub may call a model, with a revision: no path that begins with a dot or a slash, or has several.
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w.-]+)?")
# The embedded world's models: ``toy`` is the one of the place that names it, base or teacher.
TOY_IDS = ("toy", "toy:base", "toy:teacher")
Dtype = Literal["float32", "bfloat16", "float16"]


class LoraSpec(Spec):
    """LoRA through peft. ``targets`` are module-name suffixes, or ``all-linear``; empty means peft's own default."""

    r: PositiveInt = 32
    alpha: PositiveInt = 64
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    trainable_tokens: tuple[str, ...] = ()


class ThinkSpec(Spec):
    """How reasoning is tagged.

    ``prompt``: the opening tag ends the prompt, in training and sampling alike. ``learnt``: the student writes it
    itself, and the loss covers it. ``none``: no reasoning is expected (instruct controls).
    """

    where: Literal["prompt", "learnt", "none"] = "prompt"
    open: str = "<think>"
    close: str = "</think>"

    @model_validator(mode="after")
    def _tags_differ(self) -> ThinkSpec:
        if not self.open or not self.close or self.open == self.close:
            raise ValueError("think.open and think.close must be two different, non-empty strings")
        return self


class ModelSpec(Spec):
    """A causal language model: ``id`` is ``toy`` (the embedded world's base), ``toy:teacher``, a hub id, a folder, or a
    ``.gguf`` file.

    ``revision`` pins a hub commit. ``base`` names a second checkpoint to attribute to instead of the same weights with
    the adapter off; two models are then held in memory, and reports say so.
    """

    name: str
    id: str
    revision: str | None = None
    base: str | None = None
    base_revision: str | None = None
    dtype: Dtype = "bfloat16"
    quantisation: Literal["none", "nf4"] = "none"
    trust_remote_code: bool = False
    attention: Annotated[Literal["sdpa", "eager"], Free()] = "sdpa"
    device: FreeStr = "auto"
    gradient_checkpointing: FreeBool = False
    system: str | None = None
    think: ThinkSpec = ThinkSpec()
    lora: LoraSpec = LoraSpec()
