"""Traces: a teacher reasons over the policies of each prompt's categories and answers; a filter keeps what is safe."""

from dalign.traces.filter import filter_traces, summarise
from dalign.traces.generate import build_traces
from dalign.traces.teacher import teacher_messages

__all__ = ["build_traces", "filter_traces", "summarise", "teacher_messages"]
