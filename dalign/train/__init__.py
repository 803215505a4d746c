"""Distillation and probes: examples, the plan of steps, losses, checkpoints. Importing the package loads no torch."""
