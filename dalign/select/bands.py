"""Bands: the mean of a score over neighbouring layers, as a score of its own without layers (pure functions)."""

from __future__ import annotations

import re

import numpy as np

from dalign.errors import ConfigError
from dalign.select.rank import Floats


def band_name(score: str, band: tuple[int, int]) -> str:
    """What the score of a band is called: ``similarity[4-8]``."""
    return f"{score}[{band[0]}-{band[1]}]"


def band_of(name: str) -> tuple[str, tuple[int, int] | None]:
    """The score of a band and its two layers, the inverse of ``band_name``; any other name is a score without one."""
    found = re.fullmatch(r"(.+)\[(\d+)-(\d+)\]", name)
    return (found[1], (int(found[2]), int(found[3]))) if found else (name, None)


def band_mean(scores_PNL: Floats, band: tuple[int, int]) -> Floats:
    """The mean over the layers of ``band``, both ends among them, (P, N); NaN where any of them has no score. Raises
    ``ConfigError`` for a layer that the model has not, and for a band in which a layer was not computed."""
    first, last = band
    depth = scores_PNL.shape[-1] - 1
    if not 0 <= first < last <= depth:
        raise ConfigError(
            f"selector.layer=[{first},{last}]: this model has hidden states 0 (embeddings) to {depth}; a band is "
            "two of them, the lower one first"
        )
    within_PNL = scores_PNL[..., first : last + 1]
    none_L = np.isnan(within_PNL).all(axis=(0, 1))
    if none_L.any() and not np.isnan(scores_PNL).all():
        lacking = (first + np.flatnonzero(none_L)).tolist()
        raise ConfigError(
            f"selector.layer=[{first},{last}]: no score was computed at {lacking}; add them to attribution.layers"
        )
    return np.asarray(within_PNL.mean(axis=-1))
