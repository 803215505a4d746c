"""Prompts and ready-made traces as records, from local files, the hub, or the embedded world; free of torch."""

from dalign.prompts.benchmarks import load_benchmark
from dalign.prompts.training import load_dataset, load_traces, read_traces

__all__ = ["load_benchmark", "load_dataset", "load_traces", "read_traces"]
