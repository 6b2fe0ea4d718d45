"""Spans made by hand, for tests of what is made of spans."""

from typing import Any

from instrumentation.traces import FinishedSpan

TRACE = "0af7651916cd43dd8448eb211c80319c"
MILLISECOND = 1_000_000
START_NS = 1_795_438_800_000_000_000


def span(number: int, start_ms: int, end_ms: int, **fields: Any) -> FinishedSpan:
    """A span with a number for its id, from one time to another; see `FinishedSpan` for the other fields."""
    given: dict[str, Any] = {
        "run": "20261123-090000-5eed",
        "stream": "request-0",
        "writer": "w1",
        "step": "request",
        "name": "request",
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_span_id": None,
        "start_ns": START_NS + start_ms * MILLISECOND,
        "end_ns": START_NS + end_ms * MILLISECOND,
    }
    return FinishedSpan(**(given | fields))


def child(number: int, step: str, start_ms: int, end_ms: int, *, of: int = 1, **fields: Any) -> FinishedSpan:
    """A step of a request."""
    return span(number, start_ms, end_ms, **({"step": step, "name": step, "parent_span_id": f"{of:016x}"} | fields))
