"""Where events wait between their recording and their lines: the list that gives them their order, and their numbers.

An event's place in the list is its place in the log: a list's `append` is one step for all threads, so whoever records
takes no lock. Numbers and bytes come later, for some dozens of events at a time: one by one, each between other work,
they would find the processor's caches full of that other work, and take twice as long.

Invariants:
    `seq` is gapless in the order of the list, `version` gapless for each stream, and an event links to the one before
    it in its stream;
    an interrupt finds each event with its number, its stream's next and the writer's, or without all of them: it can
    come after any call, so there is none between the statements that belong together.
"""

from collections.abc import Sequence
from typing import Protocol

from eventflow.event import Event, Link, Payload
from eventflow.log.format import encode_brief, require_line
from eventflow.sources import Sources
from eventflow.stream import Stream

NO_LINK = Link("", "", "")


class Place(Protocol):
    """What events are recorded in: a span."""

    stream: Stream
    span_id: str
    parent_span_id: str | None


Recorded = tuple[Place, Payload, Link, tuple[Link, ...], int]  # the link to it, its causes, its time


class Batch:
    """Event lines on their way to the disk: pieces of whole lines, how many lines and bytes."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.count = self.size = 0


class Intake:
    """The events of one writer that were recorded and have no line yet.

    Adding to `recorded` needs no lock, everything else needs one.

    Args:
        links: whether events link to what caused them. Without, they get their ids here, and their links are `NO_LINK`.

    Attributes:
        recorded: what came, in the log's order.
        numbered: the events of the first of them, which have their numbers.
        next_seq: of the next event that is numbered.
    """

    __slots__ = ("_event_id", "_links", "_run", "_writer", "next_seq", "numbered", "recorded")

    def __init__(self, run: str, writer: str, next_seq: int, sources: Sources, *, links: bool) -> None:
        self._run, self._writer, self._links, self._event_id = run, writer, links, sources.event_id
        self.recorded: list[Recorded] = []
        self.numbered: list[Event[Payload]] = []
        self.next_seq = next_seq

    def seq_after(self) -> int:
        """The `seq` of the next event that is recorded."""
        return self.next_seq + len(self.recorded) - len(self.numbered)

    def number(self) -> None:
        """Give everything that was recorded its place in the log and in its stream."""
        self._number(self.recorded[len(self.numbered) :])

    def number_now(self, entry: Recorded) -> None:
        """Record an event behind all that have numbers, with its own, unless it has no line.

        Raises:
            EventTooLarge: its line is longer than `LINE_BYTES_MAX`. Nothing was recorded.
            TypeError: the payload holds something that JSON cannot. Nothing was recorded.
        """
        self.number()
        self._number((entry,), is_new=True)

    def _number(self, entries: Sequence[Recorded], is_new: bool = False) -> None:
        run, writer, has_links, event_id = self._run, self._writer, self._links, self._event_id
        recorded, numbered, place = self.recorded, self.numbered, len(self.numbered)
        for entry in entries:
            span, payload, link, causes, time_ns = entry
            stream, seq = span.stream, self.next_seq
            version, last = stream.version, stream.last_numbered
            event = Event(
                link.id if has_links else event_id(),
                payload.TYPE,
                time_ns,
                run,
                stream.name,
                version,
                writer,
                seq,
                stream.trace_id,
                span.span_id,
                payload,
                span.parent_span_id,
                () if not has_links else (last, *causes) if last else causes,
            )
            if is_new:
                require_line(event)
                recorded[place:place] = (entry,)  # no call from here on
            numbered += (event,)
            stream.version = version + 1
            stream.last_numbered = link
            self.next_seq = seq + 1

    def encode(self) -> bytes:
        """Number everything, and give the lines of all that is numbered."""
        self.number()
        return encode_brief(self.numbered)

    def take_back(self, entry: Recorded) -> bool:
        """Whether the entry has no number yet, and is gone now as if it had never been recorded."""
        for place in range(len(self.numbered), len(self.recorded)):
            if self.recorded[place] is entry:
                del self.recorded[place]
                return True
        return False
