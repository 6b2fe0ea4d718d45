"""Spans made by hand, in milliseconds, and the story of a request that was tried twice."""

from collections.abc import Sequence
from typing import Any

from instrumentation.traces import FinishedSpan, SpanEvent, SpanLink

START_NS = 1_795_438_800_000_000_000
MS = 1_000_000
TRACE = "a" * 32
OTHER_TRACE = "b" * 32


def span(
    step: str,
    start_ms: float,
    end_ms: float,
    parent: str | None = None,
    after: Sequence[str] = (),
    **fields: Any,
) -> FinishedSpan:
    """A span whose id is its step, unless `span_id` says otherwise; `after`: the spans that it is linked to."""
    given = {
        "span_id": step,
        "name": step,
        "stream": "request-1",
        "writer": "w",
        "run": "r",
        "trace_id": TRACE,
    } | fields
    links = [SpanLink(TRACE, cause, f"{cause}-event") for cause in after]
    return FinishedSpan(
        step=step,
        parent_span_id=parent,
        start_ns=at(start_ms),
        end_ns=at(end_ms),
        links=(*links, *given.pop("links", ())),
        **given,
    )


def at(milliseconds: float) -> int:
    """Unix time."""
    return START_NS + round(milliseconds * MS)


def attempt(number: int, start_ms: float, end_ms: float, after: str, **fields: Any) -> FinishedSpan:
    """An attempt, `get-1` for the first, which was sent a millisecond after it began."""
    told = {"server.address": "h.example", "server.port": 443, "eventflow.attempt.sent_seconds": 0.001}
    if number > 1:
        told["http.request.resend_count"] = number - 1
    attributes = told | fields.pop("attributes", {})
    made = {"span_id": f"get-{number}", "name": "GET", "kind": "client", "attributes": attributes} | fields
    return span("attempt", start_ms, end_ms, "request", [after], **made)


def delay(time_ms: float, seconds: float, reason: str) -> SpanEvent:
    """The event that a request will be tried again."""
    return SpanEvent(
        "request.delayed", at(time_ms), {"eventflow.request.seconds": seconds, "eventflow.request.reason": reason}
    )


def tried_twice() -> list[FinishedSpan]:
    """0 to 100 ms: a queue of 10, a 503, a wait of 30, a kept connection, a body of 20, stored."""
    kept = {"eventflow.connection.requests": 3, "eventflow.connection.id": "w-0"}
    return [
        span("queue", 0, 10, "request", ["request"]),
        attempt(
            1,
            10,
            20,
            "queue",
            state="failed",
            message="503 Service Unavailable",
            attributes={"http.response.status_code": 503, "eventflow.attempt.response_seconds": 0.01},
        ),
        span("body", 70, 90, "get-2", attributes={"http.response.body.size": 2048}),
        attempt(
            2,
            50,
            90,
            "get-1",
            attributes={"http.response.status_code": 200, "eventflow.attempt.response_seconds": 0.02, **kept},
            links=(SpanLink(OTHER_TRACE, "elsewhere", "other-event"),),
        ),
        span("verify", 90, 91, "request", ["get-2"]),
        span("store", 91, 99, "request", ["verify"], attributes={"eventflow.file.name": "a.bin"}),
        span("request", 0, 100, events=(delay(21, 0.03, "Retry-After"),)),
    ]
