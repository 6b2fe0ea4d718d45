"""Events as log records, for the SDK's exporters: each event is one, with its type as the event name.

An event is a moment, which is what OpenTelemetry's events (log records with a name) are for. Its attributes are all
that it says, by the path in its line: `eventflow.event.data.status`, `eventflow.event.stream`, `eventflow.event.seq`.

Invariants:
    the same event gives the same record; every event gives one;
    no attribute holds a secret, since no event does.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import TraceFlags
from opentelemetry.util.types import AnyValue

from eventflow.event import StoredEvent
from instrumentation.otlp.scope import SCOPE

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_DATA = "eventflow.event.data"
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1

SEVERITIES = {
    "attempt.failed": SeverityNumber.WARN,
    "request.delayed": SeverityNumber.WARN,
    "run.interrupted": SeverityNumber.WARN,
    "breaker.opened": SeverityNumber.WARN,
    "recorder.dropped": SeverityNumber.ERROR,
}
"""Of the types that are neither plain (INFO) nor a failure for good (ERROR): what was, or will be, tried again."""


def log_records(
    events: Iterable[StoredEvent],
    resource: Callable[[str], Resource],
    limits: LogRecordLimits | None = None,
) -> list[ReadableLogRecord]:
    """The log records of events, in their order.

    Args:
        events: of any writers.
        resource: the resource of a process, by its writer.
        limits: how many attributes a record has at most, and how long their texts are; None: what the environment says.
    """
    limits = limits or LogRecordLimits()
    resources: dict[str, Resource] = {}
    found = []
    for event in events:
        mine = resources.get(event.writer)
        if mine is None:
            mine = resources[event.writer] = resource(event.writer)
        found.append(ReadableLogRecord(_record(event, limits), mine, SCOPE, limits))
    return found


def severity(event_type: str) -> SeverityNumber:
    """How bad it is.

    >>> severity("request.completed").name, severity("attempt.failed").name, severity("request.failed").name
    ('INFO', 'WARN', 'ERROR')
    """
    known = SEVERITIES.get(event_type)
    if known is not None:
        return known
    return SeverityNumber.ERROR if event_type.endswith(".failed") else SeverityNumber.INFO


def _record(event: StoredEvent, limits: LogRecordLimits) -> LogRecord:
    record = LogRecord(
        timestamp=event.time,
        observed_timestamp=event.time,
        severity_number=severity(event.type),
        attributes=_limited(attributes_of(event), limits),
        event_name=event.type,
    )
    record.trace_id, record.span_id = int(event.trace_id, 16), int(event.span_id, 16)
    record.trace_flags = _SAMPLED
    return record


def attributes_of(event: StoredEvent) -> dict[str, AnyValue]:
    """All that an event says, but for its type, time and ids of the span, which a record has a place for."""
    found: dict[str, AnyValue] = {
        "eventflow.event.id": event.id,
        "eventflow.run.id": event.run,
        "eventflow.event.stream": event.stream,
        "eventflow.event.version": event.version,
        "eventflow.event.writer": event.writer,
        "eventflow.event.seq": event.seq,
    }
    if event.parent_span_id is not None:
        found["eventflow.event.parent_span_id"] = event.parent_span_id
    if event.links:
        found["eventflow.event.links"] = [link.id for link in event.links]
    found.update(_flat(_DATA, _decoded(event)))
    return found


def _decoded(event: StoredEvent) -> Any:
    """The payload as plain values; as text where it is no JSON, which only a damaged log has."""
    try:
        return msgspec.json.decode(event.data)
    except (ValueError, RecursionError):
        return bytes(event.data).decode(errors="replace")


def _flat(path: str, value: Any) -> Iterator[tuple[str, AnyValue]]:
    """A value and those within it, each with its path; a list of objects as a list for each of their fields."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _flat(f"{path}.{name}", inner)
        case [dict(), *_] if all(isinstance(one, dict) for one in value):
            names = dict.fromkeys(name for one in value for name in one)
            for name in names:
                yield f"{path}.{name}", [_plain(one.get(name)) for one in value]
        case None:
            return
        case _:
            yield path, _plain(value)


def _plain(value: Any) -> AnyValue:
    """A value as an attribute may hold it: a number beyond 64 bits is its text."""
    match value:
        case bool() | str() | None:
            return value
        case int():
            return value if _INT_MIN <= value <= _INT_MAX else str(value)
        case float():
            return value
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case _:
            return str(value)


def _limited(found: dict[str, AnyValue], limits: LogRecordLimits) -> Any:
    """The attributes within the limits, and how many there were too many."""
    most, longest = limits.max_log_record_attributes, limits.max_log_record_attribute_length
    if longest is None and (most is None or len(found) <= most):
        return found
    return BoundedAttributes(most, found, immutable=False, max_value_len=longest)
