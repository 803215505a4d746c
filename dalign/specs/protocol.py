"""By which protocol an evaluation is measured besides the corrected one: the released code's choices as switches."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt, field_validator

from dalign.specs.base import Free, Spec

Switch = Literal["bare_judge", "pad_position", "cut", "bf16_cosine", "substring", "test_layer"]
SWITCHES: tuple[Switch, ...] = get_args(Switch)
SCORE_SWITCHES: tuple[Switch, ...] = ("pad_position", "cut", "bf16_cosine")
CORRECTED, RELEASED, PREFILLED, IMPORTED = "corrected", "released_code", "prefilled", "imported"
PUBLISHED_CUT = 2048


class ProtocolSpec(Spec):
    """What is measured beside the corrected protocol, from the samples that are there; it never changes their files.

    ``switches``: the released code's choices, each measured alone, and all together where all six are named.
    ``bare_judge``: a guard reads the response without its prompt and template. ``pad_position``: states are read at the
    last column of right-padded batches of four. ``cut``: pairs end at ``cut_at`` tokens. ``bf16_cosine``: cosines are
    taken in bfloat16. ``substring``: an answer is right if the gold one stands anywhere in it. ``test_layer``: the
    layer is the best one on the labels it is reported on. ``prefill``: utility prompts are asked once more, without
    reasoning and with the answer begun by the benchmark's ``prefill``.
    """

    name: str = CORRECTED
    switches: Annotated[tuple[Switch, ...], Free()] = ()
    cut_at: Annotated[PositiveInt, Free()] = Field(PUBLISHED_CUT)
    prefill: Annotated[bool, Free()] = False

    @field_validator("switches")
    @classmethod
    def _once(cls, value: tuple[Switch, ...]) -> tuple[Switch, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a switch twice")
        return value

    @property
    def all_together(self) -> bool:
        """Whether every switch is named, so that the released code's protocol as a whole is measured too."""
        return set(self.switches) == set(SWITCHES)

    @property
    def cut_name(self) -> str:
        """The name of the switch ``cut`` in results: it tells the limit."""
        return f"cut_{self.cut_at}"

    @property
    def together_name(self) -> str:
        """The name of all switches together; it tells a limit that is not the released code's."""
        return RELEASED if self.cut_at == PUBLISHED_CUT else f"{RELEASED}_{self.cut_name}"
