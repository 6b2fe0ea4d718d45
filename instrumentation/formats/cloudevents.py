"""The events of a run as CloudEvents 1.0: one event a line, in the structured JSON mode.

Our envelope and CloudEvents' agree where that has a word; what it lacks is in extension attributes, whose names may
have lower-case letters and digits only. `traceparent` is the Distributed Tracing extension, `sequence` the Sequence
extension; the rest is ours.

Invariants:
    every field of an event is in its CloudEvent, to the nanosecond: nothing is lost on the way;
    `source` and `id` together name the event wherever it goes, and it is the same line whenever it is written;
    within one source, `sequence` sorts as text in the order in which the events were written.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from eventflow.event import Link, StoredEvent

TYPE_PREFIX = "dev.eventflow."
"""In front of an event's type, since a CloudEvent's type begins with a reverse domain name. Own types get it, too."""
_EVENTS_AT_ONCE = 500
_SEQUENCE_DIGITS = 12
_BILLION = 1_000_000_000


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One event, field by field as JSON has it.

    Attributes:
        source: `/eventflow/<run>/<writer>`.
        subject: the stream.
        traceparent: trace and span that the event belongs to, as W3C writes them. The log keeps all, hence `01`.
        sequence: `seq`, with zeros in front.
        streamversion: the place in the stream, from 0.
        parentspanid: the span that encloses the event's.
        links: for each event that caused this one `id/trace_id/span_id`, with blanks between them.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    traceparent: str
    sequence: str
    streamversion: int
    parentspanid: str | None = None
    links: str = ""
    data: msgspec.Raw


def as_cloudevents(events: Iterable[StoredEvent]) -> Iterator[bytes]:
    """The lines of some events, some hundred at a time. Memory: that of these.

    >>> from eventflow.event import Event
    >>> data = msgspec.Raw(b'{"wait_seconds":0.25}')
    >>> event = Event("e-1", "request.started", 1, "r-1", "request-0", 1, "w-1", 7, "a" * 32, "b" * 16, data)
    >>> print(next(as_cloudevents([event])).decode()[:75])
    {"specversion":"1.0","id":"e-1","source":"/eventflow/r-1/w-1","type":"dev.e
    """
    encoder, buffer, count = msgspec.json.Encoder(), bytearray(), 0
    for event in events:
        buffer += encoder.encode(cloud_event(event))
        buffer += b"\n"
        count += 1
        if count == _EVENTS_AT_ONCE:
            yield bytes(buffer)
            buffer.clear()
            count = 0
    if buffer:
        yield bytes(buffer)


def cloud_event(event: StoredEvent) -> CloudEvent:
    """One event in CloudEvents' words."""
    return CloudEvent(
        specversion="1.0",
        id=event.id,
        source=f"/eventflow/{quote(event.run, safe='')}/{quote(event.writer, safe='')}",
        type=TYPE_PREFIX + event.type,
        subject=event.stream,
        time=timestamp(event.time),
        datacontenttype="application/json",
        traceparent=f"00-{event.trace_id}-{event.span_id}-01",
        sequence=f"{event.seq:0{_SEQUENCE_DIGITS}}",
        streamversion=event.version,
        parentspanid=event.parent_span_id,
        links=" ".join(map(_link, event.links)),
        data=event.data,
    )


def timestamp(time_ns: int) -> str:
    """Unix nanoseconds as RFC 3339 writes them, in UTC.

    >>> timestamp(1_795_438_800_000_000_017)
    '2026-11-23T13:00:00.000000017Z'
    """
    seconds, fraction = divmod(time_ns, _BILLION)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"


def _link(link: Link) -> str:
    return f"{link.id}/{link.trace_id}/{link.span_id}"
