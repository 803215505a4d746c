"""Picks one of N samples from what is known without a judge: scores, lengths, and whether a sample finished.

A selector never sees a verdict: baselines that peek live in ``dalign.report``.
"""

from dalign.select.bands import band_mean, band_name, band_of
from dalign.select.baselines import REFUSAL, draws_until_safe
from dalign.select.inputs import SelectorInput, Until
from dalign.select.rank import arg_weights, uniform_weights
from dalign.select.selectors import SELECTORS, auto_layer, choose, headline

__all__ = [
    "REFUSAL",
    "SELECTORS",
    "SelectorInput",
    "Until",
    "arg_weights",
    "auto_layer",
    "band_mean",
    "band_name",
    "band_of",
    "choose",
    "draws_until_safe",
    "headline",
    "uniform_weights",
]
