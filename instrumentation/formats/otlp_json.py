"""The spans of a run as OTLP in JSON: what Jaeger's page opens as a file and every OTLP/HTTP endpoint takes.

It is one `ExportTraceServiceRequest` in the JSON mapping of OTLP: ids are hexadecimal, integers of 64 bits are strings,
enumerations are numbers (opentelemetry-specification, protocol/otlp.md, "JSON Protobuf Encoding"). It is written in
pieces of some hundred spans, so a resource is repeated and memory does not grow with the run.

Invariants:
    the same spans give the same bytes;
    each span is in the resource of the process that recorded its last event.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import msgspec

from eventflow.log.runs import RunInfo
from instrumentation.traces.resource import SERVICE, resource_attributes
from instrumentation.traces.span import Attribute, FinishedSpan, SpanEvent, SpanLink

SPANS_AT_ONCE = 500
KINDS = {"internal": 1, "client": 3}
STATUS_ERROR = 2
_FLAGS = 0x101  # sampled; and that the context is not remote is known
Json = dict[str, Any]


def as_otlp_json(info: RunInfo, spans: Iterable[FinishedSpan], processes: Mapping[str, int]) -> Iterator[bytes]:
    """The bytes of one JSON object, piece by piece.

    Args:
        info: the run.
        spans: its spans.
        processes: process ids by writer; looked at when a writer's first span comes.
    """
    resources: dict[str, Json] = {}
    yield b'{"resourceSpans":['
    separator = b"\n"
    remaining = iter(spans)
    while piece := list(islice(remaining, SPANS_AT_ONCE)):
        buffer = bytearray()
        for writer, group in groupby(sorted(piece, key=lambda span: span.writer), key=lambda span: span.writer):
            if writer not in resources:
                resources[writer] = {
                    "attributes": _attributes(resource_attributes(info, writer, processes.get(writer)))
                }
            scope = {"scope": {"name": SERVICE}, "spans": [span_json(span) for span in group]}
            buffer += separator
            buffer += msgspec.json.encode({"resource": resources[writer], "scopeSpans": [scope]})
            separator = b",\n"
        yield bytes(buffer)
    yield b"\n]}\n"


def span_json(span: FinishedSpan) -> Json:
    """One span as OTLP's JSON has it. What is empty is left out."""
    found: Json = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.parent_span_id is not None:
        found["parentSpanId"] = span.parent_span_id
    found |= {
        "flags": _FLAGS,
        "name": span.name,
        "kind": KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.events:
        found["events"] = [_event(event) for event in span.events]
    if span.dropped_events:
        found["droppedEventsCount"] = span.dropped_events
    if span.links:
        found["links"] = [_link(link) for link in span.links]
    found["status"] = _status(span)
    return found


def _status(span: FinishedSpan) -> Json:
    """Unset unless it is an error; no description where the status code or the exit code says it all."""
    if not span.is_error:
        return {}
    message = span.status_message
    return {"code": STATUS_ERROR, "message": message} if message else {"code": STATUS_ERROR}


def _event(event: SpanEvent) -> Json:
    return {"timeUnixNano": str(event.time_ns), "name": event.name, "attributes": _attributes(event.attributes)}


def _link(link: SpanLink) -> Json:
    return {
        "traceId": link.trace_id,
        "spanId": link.span_id,
        "attributes": _attributes({"eventflow.event.id": link.event_id}),
        "flags": _FLAGS,
    }


def _attributes(attributes: Mapping[str, Attribute]) -> list[Json]:
    return [{"key": name, "value": value_json(value)} for name, value in attributes.items()]


def value_json(value: Attribute) -> Json:
    """An AnyValue.

    >>> value_json(17), value_json(True), value_json(("a",))
    ({'intValue': '17'}, {'boolValue': True}, {'arrayValue': {'values': [{'stringValue': 'a'}]}})
    """
    match value:
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
        case _:
            return {"arrayValue": {"values": [value_json(each) for each in value]}}


def _not_finite(value: float) -> str:
    """As the JSON mapping of protocol buffers writes what JSON cannot."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
