"""The event: one immutable fact, with its place in a story and the facts that caused it.

This module is the envelope and nothing else: no clock, no disk, no contextvars. What an event can *say* is in
`eventflow.vocabulary`; where it is kept is `eventflow.log`.

Names follow CloudEvents and OpenTelemetry where those have a word for the thing.

Invariants:
    `version` counts the events of one stream from 0 without a gap;
    `seq` counts the events of one writer from 0 without a gap, and is the order that is always true;
    `links` are the prev pointers: the events that caused this one. Following them back never leaves the run.
"""

from typing import ClassVar, Generic, TypeVar

import msgspec


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event says. One subclass per event type; `TYPE` is its static dotted name, in the past tense.

    A field whose value is its default is left out of the log, so a new field with a default is always a compatible
    change.

    `BRIEF` is a promise for types that come with every request: its fields hold numbers and short texts, a line of at
    most 256 KiB, and nothing that can change later. The recorder encodes those together, some time after they were
    recorded; any other payload at once, so that whoever records it learns of what JSON cannot hold. Subclasses of a
    brief type promise nothing unless they say so.
    """

    TYPE: ClassVar[str] = ""
    BRIEF: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "BRIEF" not in cls.__dict__:
            cls.BRIEF = False


class Link(msgspec.Struct, frozen=True, gc=False):
    """A prev pointer: this was caused by that. It names the event and the span that the event belongs to."""

    id: str
    trace_id: str
    span_id: str


DataT = TypeVar("DataT", bound=Payload | msgspec.Raw, covariant=True)


class Event(msgspec.Struct, Generic[DataT], frozen=True, omit_defaults=True, gc=False):
    """One immutable fact.

    `Event[SomePayload]` is an event that was just made; `Event[msgspec.Raw]` (`StoredEvent`) is one read from a log:
    its payload stays as the bytes that were written until `eventflow.vocabulary.decode_payload` is asked for it, so
    readers pass on types and fields that they do not know.

    Attributes:
        id: UUIDv7, unique, sorts by time.
        type: the static dotted name of what happened.
        time: unix nanoseconds, wall clock. Durations are never the difference of two of these: they are in `data`, in
            seconds.
        run: the run.
        stream: the story of one thing (`run`, `request-17`).
        version: the place in that story, from 0, gapless.
        writer: which process wrote it.
        seq: its place in that writer's log, from 0, gapless.
        trace_id: W3C trace id, 32 hex digits. A request's whole story is one trace.
        span_id: W3C id of the span that this event belongs to, 16 hex digits.
        data: the payload.
        parent_span_id: the span that encloses this one, None for a root.
        links: the prev pointers.
    """

    id: str
    type: str
    time: int
    run: str
    stream: str
    version: int
    writer: str
    seq: int
    trace_id: str
    span_id: str
    data: DataT
    parent_span_id: str | None = None
    links: tuple[Link, ...] = ()


StoredEvent = Event[msgspec.Raw]
