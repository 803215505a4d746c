"""Picks one of N samples from what is known without a judge: scores, lengths, and whether a sample finished.

A selector never sees a verdict: baselines that peek live in ``dalign.report``.
"""

from dalign.select.rank import arg_weights, uniform_weights
from dalign.select.selectors import SELECTORS, SelectorInput, auto_layer, choose, headline

__all__ = ["SELECTORS", "SelectorInput", "arg_weights", "auto_layer", "choose", "headline", "uniform_weights"]
