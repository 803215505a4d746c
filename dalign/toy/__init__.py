"""The embedded world: a made-up kingdom with a royal safety policy, its prompts, its truth and its small models.

``world``, ``truth`` and what they rest on are free of torch; ``build``, ``measure`` and ``tokens`` are not, and are
imported only where models are made or run.
"""

from dalign.toy.truth import TruthVerdict, truth
from dalign.toy.world import WORLD_VERSION, World

__all__ = ["WORLD_VERSION", "TruthVerdict", "World", "truth"]
