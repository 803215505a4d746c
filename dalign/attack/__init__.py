"""Adaptive attacks: PAIR, by a chat model or by a search over the embedded world, and the attack on the selector."""
