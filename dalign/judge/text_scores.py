"""Scores that are made of what answers say, by rules that need no model; none of them sees a verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dalign.judge.refusal import refusal_rule
from dalign.select import REFUSAL
from dalign.select.rank import Floats


def text_scores(answers: Sequence[Sequence[str]], *, toy: bool) -> dict[str, Floats]:
    """``refusal``: 1 where an answer refuses by its phrases and 0 where not, (P, N); NaN where there is no answer."""
    refuses = refusal_rule(toy=toy)
    rows = [[float(refuses(text)) if text.strip() else np.nan for text in row] for row in answers]
    return {REFUSAL: np.array(rows, dtype=np.float64)}
