"""A stream: the story of one thing, while it is told, and when another process goes on telling it.

Invariants:
    one process at a time tells a story, so its versions have no gap and each event links to the one before it.
"""

import msgspec

from eventflow.event import Link


class Stream:
    """The story of one thing, as far as it is told.

    Attributes:
        version: of the next event, `last_numbered` the link to the one before it. A recorder numbers events some time
            after they were recorded: ask for a `handoff`, which is exact.
        last: the link to the event that was recorded last.
    """

    __slots__ = ("last", "last_numbered", "name", "trace_id", "version")

    def __init__(self, name: str, trace_id: str, version: int = 0, last: Link | None = None) -> None:
        self.name, self.trace_id, self.version = name, trace_id, version
        self.last = self.last_numbered = last


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
