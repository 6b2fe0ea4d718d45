"""What the fold of spans remembers: spans and stories that are not over, and how far those were told that are."""

from array import array

from eventflow.event import Link, StoredEvent
from eventflow.progress import request_number
from instrumentation.traces.attributes import Put
from instrumentation.traces.span import SpanEvent

EVENTS_MAX = 128


class OpenSpan:
    """A span that has begun. `child` is the last event of a child that an event of this span came from."""

    __slots__ = (
        "attributes",
        "child",
        "dropped",
        "end_ns",
        "events",
        "links",
        "message",
        "name",
        "parent",
        "shown_id",
        "span_id",
        "start_ns",
        "step",
        "writer",
    )

    def __init__(self, event: StoredEvent, step: str) -> None:
        self.span_id = self.shown_id = event.span_id
        self.parent = event.parent_span_id
        self.step = self.name = step
        self.start_ns = self.end_ns = event.time
        self.writer = event.writer
        self.attributes: Put = {}
        self.links: list[Link] = []
        self.events: list[SpanEvent] = []
        self.dropped = 0
        self.child: Link | None = None
        self.message = ""

    def moment(self, name: str, time_ns: int, attributes: Put) -> None:
        """Something happened within the span."""
        if len(self.events) < EVENTS_MAX:
            self.events.append(SpanEvent(name, time_ns, attributes))
        else:
            self.dropped += 1

    def exception(self, time_ns: int, error: str, message: str) -> None:
        """It failed, and this is where the failure came from."""
        self.message = message
        self.moment("exception", time_ns, {"exception.type": f"eventflow.errors.{error}", "exception.message": message})

    def link(self, cause: Link) -> None:
        """It came from that; several events of one span are one cause."""
        if all(known.span_id != cause.span_id for known in self.links):
            self.links.append(cause)


class OpenStory:
    """A stream, as far as it is told. `began` is the version that it goes on from if it was over before."""

    __slots__ = ("began", "error", "last_ns", "next_version", "parents", "spans", "trace_id", "url", "waiting")

    def __init__(self, next_version: int) -> None:
        self.began = self.next_version = next_version
        self.trace_id = ""
        self.url: str | None = None
        self.error: str | None = None  # the last one that an attempt said
        self.last_ns = 0
        self.spans: dict[str, OpenSpan] = {}
        self.parents: dict[str, str | None] = {}
        self.waiting: dict[int, StoredEvent] = {}

    def encloses(self, outer: str, inner: str | None) -> bool:
        """Whether one span is above the other."""
        while inner is not None:
            inner = self.parents.get(inner)
            if inner == outer:
                return True
        return False


class Ends:
    """How far each story was told when it was over: the next version, since a resume may go on."""

    def __init__(self) -> None:
        self._numbered = array("i")
        self._named: dict[str, int] = {}

    def next_version(self, stream: str) -> int:
        """Where a story goes on; 0 if it never was over."""
        number = request_number(stream)
        if number is None:
            return self._named.get(stream, 0)
        return self._numbered[number] if number < len(self._numbered) else 0

    def note(self, stream: str, next_version: int) -> None:
        """A story is over for now."""
        number = request_number(stream)
        if number is None:
            self._named[stream] = next_version
            return
        if number >= len(self._numbered):
            self._numbered.extend([0] * (number + 1 - len(self._numbered)))
        self._numbered[number] = next_version
