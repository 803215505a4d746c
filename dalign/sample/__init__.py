"""Draws responses: one contract (``engine``), kept by every engine."""

from dalign.sample.engine import Drawn, Engine, Request, sample_seed

__all__ = ["Drawn", "Engine", "Request", "sample_seed"]
