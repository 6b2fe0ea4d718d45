from typing import Any

import msgspec
import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource

from eventflow.event import Link
from eventflow.measuring_events import MetricMeasured, ProcessReading, ProcessSampled
from eventflow.vocabulary import (
    AttemptFailed,
    FileVerified,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    RequestQueued,
)
from instrumentation.otlp.logs import attributes_of, log_records
from instrumentation.otlp.scope import SCOPE
from tests.told_events import SECOND, SPAN, START, TRACE, Told


def records(told: Told, **limits: Any) -> list[ReadableLogRecord]:
    """What was told, as log records."""
    return log_records(told.events, lambda writer: Resource({"service.instance.id": writer}), LogRecordLimits(**limits))


def test_an_event_is_a_log_record_with_a_name() -> None:
    """Its time is when it happened, its context the span that it belongs to, its resource the process."""
    told = Told()
    told.say("w", "request-3", RequestCompleted(name="a.txt", bytes=7, seconds=0.5), at=2)
    (made,) = records(told)
    record = made.log_record
    assert record.event_name == "request.completed"
    assert record.timestamp == record.observed_timestamp == START + 2 * SECOND
    assert (record.trace_id, record.span_id, record.trace_flags) == (int(TRACE, 16), int(SPAN, 16), 1)
    assert (record.severity_number, record.severity_text, record.body) == (SeverityNumber.INFO, None, None)
    assert made.resource.attributes["service.instance.id"] == "w"
    assert made.instrumentation_scope == SCOPE
    assert dict(record.attributes or {}) == {
        "eventflow.event.id": told.events[0].id,
        "eventflow.run.id": "r",
        "eventflow.event.stream": "request-3",
        "eventflow.event.version": 0,
        "eventflow.event.writer": "w",
        "eventflow.event.seq": 0,
        "eventflow.event.data.name": "a.txt",
        "eventflow.event.data.bytes": 7,
        "eventflow.event.data.seconds": 0.5,
    }


def test_severity_says_what_failed_for_good() -> None:
    """A request that failed is an error, an attempt that did is a warning: it may be tried again."""
    told = Told()
    told.say("w", "request-3", RequestQueued(number=3, url="https://h.example", name="n"))
    told.say("w", "request-3", AttemptFailed(error="E", message="m", seconds=1), RequestDelayed(seconds=1, reason="E"))
    told.say("w", "request-3", RequestFailed(error="E", message="m", seconds=1))
    severities = [one.log_record.severity_number for one in records(told)]
    assert [one.value for one in severities if one is not None] == [9, 13, 13, 17]


def test_a_payload_is_flat_and_typed() -> None:
    """Lists stay lists, a list of objects is a list for each field, an object is a path."""
    told = Told()
    told.say("w", "s", FileVerified(bytes=1, sha256="ab", seconds=1, checks=("size", "sha256")))
    readings = (ProcessReading(1, 10, 0.5, 2), ProcessReading(2, 20, 0.25, 3))
    told.say(
        "w",
        "s",
        ProcessSampled(memory_bytes=30, memory_kind="pss", cpu_seconds=1, processes=readings, sampling_seconds=0),
        MetricMeasured(name="n", kind="gauge", attributes={"k": "v", "is": True}, sum=1, min=1, max=1, last=1),
    )
    verified, sampled, measured = [one.log_record.attributes or {} for one in records(told)]
    assert verified["eventflow.event.data.checks"] == ["size", "sha256"]
    assert sampled["eventflow.event.data.processes.pid"] == [1, 2]
    assert sampled["eventflow.event.data.processes.cpu_seconds"] == [0.5, 0.25]
    assert measured["eventflow.event.data.attributes.k"] == "v"
    assert measured["eventflow.event.data.attributes.is"] is True


def test_links_are_the_events_that_caused_it() -> None:
    """Their ids, which are attributes of other records; and the enclosing span."""
    told = Told()
    told.say("w", "s", RequestCompleted(name="n", bytes=1, seconds=1))
    event = msgspec.structs.replace(told.events[0], links=(Link("e", TRACE, SPAN),), parent_span_id="ab")
    assert attributes_of(event)["eventflow.event.links"] == ["e"]
    assert attributes_of(event)["eventflow.event.parent_span_id"] == "ab"


@pytest.mark.parametrize("data", [b'{"a":' + b"9" * 30 + b"}", b"{", b"[[[1]]]", b'{"a":null}', b'{"a":[{"b":1},{}]}'])
def test_no_payload_makes_it_raise(data: bytes) -> None:
    """Types of users, numbers beyond 64 bits, even what is no JSON: every event gives a record that can be sent."""
    told = Told()
    told.say("w", "s", RequestCompleted(name="n", bytes=1, seconds=1))
    told.events[0] = msgspec.structs.replace(told.events[0], type="page.parsed", data=msgspec.Raw(data))
    made = records(told)
    (sent,) = encode_logs(made).resource_logs[0].scope_logs[0].log_records
    assert sent.event_name == "page.parsed"


def test_limits_are_kept() -> None:
    """As the environment's variables for log records say: the first attributes stay, long texts are cut."""
    told = Told()
    told.say("w", "s", RequestCompleted(name="n" * 50, bytes=1, seconds=1))
    (made,) = records(told, max_log_record_attributes=7, max_log_record_attribute_length=4)
    attributes = made.log_record.attributes or {}
    assert len(attributes) == 7
    assert made.dropped_attributes == 2
    assert all(len(value) <= 4 for value in attributes.values() if isinstance(value, str))


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none are given."""
    monkeypatch.setenv("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3")
    told = Told()
    told.say("w", "s", RequestCompleted(name="n", bytes=1, seconds=1))
    (made,) = log_records(told.events, lambda _: Resource({}))
    assert len(made.log_record.attributes or {}) == 3


def test_the_same_event_gives_the_same_record() -> None:
    """Byte for byte, however often it is sent."""
    told = Told()
    told.say("w", "s", RequestCompleted(name="n", bytes=1, seconds=1), RequestFailed(error="E", message="m", seconds=1))
    once, again = (encode_logs(records(told)).SerializeToString(deterministic=True) for _ in range(2))
    assert once == again
