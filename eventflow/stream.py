"""A stream: the story of one thing, while it is told, and when another process goes on telling it.

Invariants:
    one process at a time tells a story, so its versions have no gap and each event links to the one before it.
"""

import msgspec

from eventflow.event import Link


class Stream:
    """The story of one thing, as far as it is told.

    The next version, and the last event as the link for the next one.
    """

    __slots__ = ("last", "name", "trace_id", "version")

    def __init__(self, name: str, trace_id: str, version: int = 0, last: Link | None = None) -> None:
        self.name, self.trace_id, self.version, self.last = name, trace_id, version, last


class Handoff(msgspec.Struct, frozen=True):
    """A span and its stream, to go on with in another process.

    The giver records nothing more in that stream until it is back.
    """

    stream: str
    trace_id: str
    version: int
    last: Link | None
    span_id: str
    parent_span_id: str | None
