"""OTLP as JSON: the mapping of the specification, and the same spans as the SDK's exporter sends."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from eventflow.log.runs import RunFolder, RunInfo
from instrumentation.formats.otlp_json import SPANS_AT_ONCE, as_otlp_json, span_json, value_json
from instrumentation.otlp.spans import readable_span
from instrumentation.traces import FinishedSpan, SpanEvent, SpanLink, read_spans
from tests.directed_log import write_directed_run
from tests.support.spans import START_NS, TRACE, child, span
from tests.synthetic_log import resume_run, write_run

INFO = RunInfo(run="20261123-090000-5eed", stage="director", created="2026-11-23T09:00:00+00:00")


def told(spans: list[FinishedSpan], processes: dict[str, int] | None = None) -> dict[str, Any]:
    """The export of some spans."""
    found: dict[str, Any] = json.loads(b"".join(as_otlp_json(INFO, spans, processes or {})))
    return found


def as_message(exported: dict[str, Any]) -> ExportTraceServiceRequest:
    """By OTLP's schema; a field that it does not know is an error. Protobuf's own JSON has ids in base64."""

    def bare(value: Any) -> Any:
        if isinstance(value, list):
            return [bare(each) for each in value]
        if isinstance(value, dict):
            return {
                name: base64.b64encode(bytes.fromhex(each)).decode() if name.endswith(("Id",)) else bare(each)
                for name, each in value.items()
            }
        return value

    message = ExportTraceServiceRequest()
    json_format.ParseDict(bare(exported), message)
    return message


def test_a_span_in_full() -> None:
    """Ids are hexadecimal, times are text, kinds and states are numbers; what is empty is left out."""
    full = child(
        2,
        "attempt",
        0,
        20,
        name="GET",
        kind="client",
        state="failed",
        message="nothing arrived",
        attributes={"server.port": 443, "url.full": "https://example.org/a"},
        links=(SpanLink("a" * 32, "b" * 16, "e-1"),),
        events=(SpanEvent("exception", START_NS + 7, {"exception.type": "TimedOut"}),),
        dropped_events=3,
    )
    assert span_json(full) == {
        "traceId": TRACE,
        "spanId": "0000000000000002",
        "parentSpanId": "0000000000000001",
        "flags": 257,
        "name": "GET",
        "kind": 3,
        "startTimeUnixNano": "1795438800000000000",
        "endTimeUnixNano": "1795438800020000000",
        "attributes": [
            {"key": "server.port", "value": {"intValue": "443"}},
            {"key": "url.full", "value": {"stringValue": "https://example.org/a"}},
        ],
        "events": [
            {
                "timeUnixNano": "1795438800000000007",
                "name": "exception",
                "attributes": [{"key": "exception.type", "value": {"stringValue": "TimedOut"}}],
            }
        ],
        "droppedEventsCount": 3,
        "links": [
            {
                "traceId": "a" * 32,
                "spanId": "b" * 16,
                "attributes": [{"key": "eventflow.event.id", "value": {"stringValue": "e-1"}}],
                "flags": 257,
            }
        ],
        "status": {"code": 2, "message": "nothing arrived"},
    }


@pytest.mark.parametrize(
    ("state", "message", "status"),
    [
        ("completed", "", {}),
        ("cancelled", "", {}),
        ("failed", "", {"code": 2}),
        ("interrupted", "", {"code": 2, "message": "killed"}),
    ],
)
def test_states(state: str, message: str, status: dict[str, Any]) -> None:
    """What ended well or on purpose is unset; the rest is an error, with why if anything says it."""
    assert span_json(span(1, 0, 1, state=state, message=message))["status"] == status


def test_what_json_has_no_number_for() -> None:
    """It is text, as the JSON mapping of protocol buffers has it, and comes back as it was."""
    values = {math.inf: "Infinity", -math.inf: "-Infinity"}
    assert {value: value_json(value) for value in values} == {
        value: {"doubleValue": text} for value, text in values.items()
    }
    assert value_json(math.nan) == {"doubleValue": "NaN"}
    message = as_message(told([span(1, 0, 1, attributes={"a": math.nan, "b": math.inf, "c": 2**60})]))
    found = message.resource_spans[0].scope_spans[0].spans[0].attributes
    assert math.isnan(found[0].value.double_value)
    assert (found[1].value.double_value, found[2].value.int_value) == (math.inf, 2**60)


def test_nothing() -> None:
    """A run without spans is a request without any."""
    assert told([]) == {"resourceSpans": []}


def test_each_process_is_a_resource() -> None:
    """Spans are with the process that recorded their end; its process id is known from its events."""
    spans = [span(number, 0, number, writer=f"w{number % 2}") for number in range(1, 5)]
    first, second = told(spans, {"w1": 4711})["resourceSpans"]
    ids = [[one["spanId"][-1] for one in each["scopeSpans"][0]["spans"]] for each in (first, second)]
    assert ids == [["2", "4"], ["1", "3"]]
    pids = [
        [one["value"] for one in each["resource"]["attributes"] if one["key"] == "process.pid"]
        for each in (first, second)
    ]
    assert pids == [[], [{"intValue": "4711"}]]


def test_many_spans_come_in_pieces() -> None:
    """A piece holds a bounded number of spans; all pieces together are one JSON object with each of them once."""
    spans = [span(number, 0, 1) for number in range(1, 2 * SPANS_AT_ONCE + 2)]
    pieces = list(as_otlp_json(INFO, iter(spans), {}))
    assert len(pieces) == 5
    exported = json.loads(b"".join(pieces))["resourceSpans"]
    found = [int(one["spanId"], 16) for each in exported for one in each["scopeSpans"][0]["spans"]]
    assert found == list(range(1, 2 * SPANS_AT_ONCE + 2))


def runs(store: Path) -> list[RunFolder]:
    """A run with failures, one of the director, one that was killed and went on."""
    killed = write_run(store, "threads", requests=40, stop_seconds=0.06, killed=True, start_ns=START_NS + 10**12)
    resume_run(killed)
    return [write_run(store, "loop", requests=60, failure_share=0.3), write_directed_run(store), killed]


def test_the_same_as_the_sdk_sends(store: Path) -> None:
    """Spans of whole runs, message by message, are those that OTLP's exporter makes of them."""
    scope = InstrumentationScope("eventflow")
    for folder in runs(store):
        spans = sorted(read_spans(folder), key=lambda one: one.writer)
        assert len(spans) > 40
        exported = as_message(told(spans))
        sent = encode_spans([readable_span(one, lambda _: Resource({}), scope) for one in spans])
        ours = [one for each in exported.resource_spans for one in each.scope_spans[0].spans]
        theirs = [one for each in sent.resource_spans for one in each.scope_spans[0].spans]
        for one in ours:  # that a trace is kept is known here and not told by the SDK
            one.flags &= ~1
            for link in one.links:
                link.flags &= ~1
        assert ours == theirs
