"""How responses are drawn, scored and chosen."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from dalign.specs.base import Free, FreeInt, Spec

LayeredName = Literal["similarity", "distance", "similarity_mean", "similarity_think", "similarity_answer"]
FlatName = Literal["kl", "reverse_kl", "ppl_student", "ppl_base", "self_certainty", "gini", "logp_ratio"]
LAYERED: tuple[LayeredName, ...] = get_args(LayeredName)
FLAT: tuple[FlatName, ...] = get_args(FlatName)


class TransformersEngine(Spec):
    """Sampling in this process, one fixed chunk at a time, ``rows`` samples at once: the next take ended ones' places.

    ``bucket`` rounds prompt lengths up.
    """

    kind: Literal["transformers"] = "transformers"
    bucket: PositiveInt = 64
    rows: PositiveInt = 256


class ReplayEngine(Spec):
    """Reads the samples of another run's file instead of drawing any."""

    kind: Literal["replay"] = "replay"
    path: str


Engine = Annotated[TransformersEngine | ReplayEngine, Field(discriminator="kind")]


class SamplerSpec(Spec):
    """N responses a prompt. Temperature 0 is greedy. ``chunk`` prompts are the unit of work, committed whole."""

    name: str
    n: Annotated[PositiveInt, Free()] = 8
    temperature: float = Field(0.7, ge=0.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0.0, lt=1.0)
    repetition_penalty: PositiveFloat = 1.0
    max_new_tokens: PositiveInt = 2048
    chunk: PositiveInt = 8
    engine: Engine = TransformersEngine()


class AttributionSpec(Spec):
    """Which scores of a (prompt, response) pair are computed, and where states are read.

    ``position``: ``content`` (the last token before the turn's end), ``eos`` (the turn's end itself) or ``mean`` (over
    the response); of the layered scores ``similarity`` and ``distance`` are read there, the others where their names
    say. ``layers``: those whose scores are wanted, all by default; none above the highest is run.
    ``token_budget`` bounds the tokens of a forward batch and never changes a score.
    """

    name: str
    layered: tuple[LayeredName, ...] = ("similarity",)
    flat: tuple[FlatName, ...] = FLAT
    layers: tuple[NonNegativeInt, ...] | None = Field(None, min_length=1)
    position: Literal["content", "eos", "mean"] = "content"
    token_budget: FreeInt = Field(8192, ge=1)


class SelectorSpec(Spec):
    """The headline selector: the sample with the smallest (``argmin``) or largest ``score`` of the N.

    ``layer`` counts hidden states, 0 the embeddings; ``auto`` is 12 where the model has at least 16 layers, else the
    one nearest 43 % of its depth. Two of them are a band: the mean over its layers, both ends among them.
    """

    name: str
    score: str = "similarity"
    direction: Literal["argmin", "argmax"] = "argmin"
    layer: int | tuple[int, int] | Literal["auto"] | None = "auto"
    require_finished: bool = True

    @property
    def band(self) -> tuple[int, int] | None:
        """The first and the last layer of a band; None for a single layer."""
        return self.layer if isinstance(self.layer, tuple) else None

    @field_validator("layer")
    @classmethod
    def _band_rises(cls, value: int | tuple[int, int] | str | None) -> int | tuple[int, int] | str | None:
        if isinstance(value, tuple) and not 0 <= value[0] < value[1]:
            raise ValueError("a band is two layers, the lower one first, from 0 on")
        return value
