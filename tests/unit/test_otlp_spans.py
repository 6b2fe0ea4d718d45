"""Spans as the SDK has them: ids, kinds, statuses, links and what was dropped, as the exporter encodes them."""

import pytest
from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from instrumentation.otlp.spans import readable_span
from instrumentation.traces import FinishedSpan, SpanEvent, SpanLink, State

RESOURCE = Resource({"service.name": "eventflow"})
PLAIN = FinishedSpan(
    run="r",
    stream="request-1",
    writer="w",
    step="attempt",
    name="GET",
    kind="client",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="00f067aa0ba902b7",
    parent_span_id="b7ad6b7169203331",
    start_ns=1_000,
    end_ns=5_000,
    attributes={"http.response.status_code": 503, "http.response.header.content-type": ("text/plain",)},
)


def encoded(**changes: object) -> Span:
    """The span as it is sent."""
    made = readable_span(replace(PLAIN, **changes), lambda _writer: RESOURCE, InstrumentationScope("eventflow"))
    (resource,) = encode_spans([made]).resource_spans
    (scope,) = resource.scope_spans
    span: Span
    (span,) = scope.spans
    return span


def test_ids_times_and_kind_are_those_of_the_log() -> None:
    """A leading zero of an id stays; times are whole nanoseconds; an attempt is a client's."""
    span = encoded()
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        PLAIN.trace_id,
        PLAIN.span_id,
        PLAIN.parent_span_id,
    )
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000, 5_000)
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert encoded(parent_span_id=None).parent_span_id == b""


@pytest.mark.parametrize(
    ("state", "message", "code", "said"),
    [
        ("completed", "", Status.STATUS_CODE_UNSET, ""),
        ("cancelled", "", Status.STATUS_CODE_UNSET, ""),
        ("failed", "503 Service Unavailable", Status.STATUS_CODE_ERROR, ""),
        ("interrupted", "", Status.STATUS_CODE_ERROR, "killed"),
    ],
)
def test_what_failed_is_an_error_and_what_was_cancelled_is_none(
    state: State, message: str, code: int, said: str
) -> None:
    """Statuses by the conventions: never OK, unset unless it failed or was killed."""
    span = encoded(state=state, message=message)
    assert (span.status.code, span.status.message) == (code, said)


def test_a_failure_without_a_status_says_why() -> None:
    """A connection that was refused has no status code, so the message tells."""
    span = encoded(state="failed", message="connection refused", attributes={})
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "connection refused")


def test_every_link_is_sent_and_dropped_moments_are_counted() -> None:
    """The SDK's limit of 128 links does not count; how many moments there were besides is told."""
    links = tuple(SpanLink(PLAIN.trace_id, f"{number + 1:016x}", f"event-{number}") for number in range(300))
    span = encoded(links=links, events=(SpanEvent("request.delayed", 2_000),), dropped_events=7)
    assert len(span.links) == 300
    assert span.links[299].span_id.hex() == f"{300:016x}"
    assert span.links[0].attributes[0].value.string_value == "event-0"
    assert (len(span.events), span.dropped_events_count, span.dropped_links_count) == (1, 7, 0)


def test_the_same_span_is_the_same_bytes() -> None:
    """However often it is made: what backends tell a re-sent span by."""
    assert encoded().SerializeToString(deterministic=True) == encoded().SerializeToString(deterministic=True)
