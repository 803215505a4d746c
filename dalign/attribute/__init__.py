"""How much of a response is the base model's: latent similarity a layer and likelihood scores of (prompt, response)."""

from dalign.attribute.pairs import Pair, PairScores
from dalign.attribute.score import asked_layers, score_pairs
from dalign.attribute.states import base_states

__all__ = ["Pair", "PairScores", "asked_layers", "base_states", "score_pairs"]
