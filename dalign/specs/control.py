"""Which control scores there are, by name; a control's scores are called ``control:NAME`` in a report.

Each scores a finished evaluation's samples again with one thing changed, and so says what the similarity reads:
``random_lora`` puts a random adapter of equal norms in the student's place, ``unrelated`` another checkpoint in the
base's; ``closings`` swaps the ends of answers between labels, ``same_closing`` gives all answers one end.
"""

from __future__ import annotations

from typing import Literal, get_args

Control = Literal["random_lora", "unrelated", "closings", "same_closing"]
CONTROLS: tuple[Control, ...] = get_args(Control)
CONTROL = "control:"
CLOSINGS = f"{CONTROL}closings"  # the texts that it scores were made by verdicts: who chooses by it peeks
# The fields of the stage that each one's results depend on.
DEPENDS_ON: dict[Control, tuple[str, ...]] = {
    "random_lora": ("draws",),
    "unrelated": (),
    "closings": ("closing",),
    "same_closing": ("sentence",),
}
