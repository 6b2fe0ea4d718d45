"""Traces: the spans that the events of a run make."""

from instrumentation.traces.read import read_spans
from instrumentation.traces.span import Attribute, FinishedSpan, Kind, SpanEvent, SpanLink, State

__all__ = ["Attribute", "FinishedSpan", "Kind", "SpanEvent", "SpanLink", "State", "read_spans"]
