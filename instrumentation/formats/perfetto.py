"""A whole run as a Perfetto trace: what each process did with which request when, and how that added up.

    run …            counters of the whole run: requests in flight, waiting, completed, failed; memory of all processes
    director 4711    a process: its memory, the limits that it had for origins
      requests 1     a lane: one request after the other, each with its steps; there are as many as were in flight
      connection …   which request had the connection when

The wait for a worker is not drawn: all that wait at once would need a lane each. A request's slice begins when the wait
is over and says how long it was, and the counter `waiting` says how many there were. Links are arrows: each link within
a request, and the one from a connection's user to the next.

Invariants:
    each other span is one slice, from its start to its end, with all that it says;
    the same events and spans give the same bytes;
    memory is that of the stories that are not over: a story is written when its root has ended.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from eventflow.event import StoredEvent
from eventflow.log.runs import RunInfo
from instrumentation.formats.counters import Counters
from instrumentation.formats.lanes import Bar, Edge, Lanes, rows
from instrumentation.formats.packets import Packets
from instrumentation.formats.writers import Writers
from instrumentation.traces.span import Attribute, FinishedSpan

CONNECTIONS_MAX = 500
_PIECES_AT_ONCE = 2_000
_ROOTS = frozenset(("request", "run"))
_PLURALS = {"request": "requests", "operation": "operations"}
_REQUESTS_RANK, _CONNECTIONS_RANK = 1_000, 1_000_000
_CONNECTION = "eventflow.connection.id"
_HANDED_ON = 1 << 63
_SIXTY_FOUR_BITS = (1 << 64) - 1


def as_perfetto(info: RunInfo, events: Iterable[StoredEvent], spans: Iterable[FinishedSpan]) -> Iterator[bytes]:
    """The bytes of the trace, piece by piece.

    Args:
        info: the run.
        events: by time; those of `counters.TYPES` matter. They are all taken first.
        spans: of the same run, in the order in which they ended.
    """
    pieces = _pieces(info, events, spans)
    while piece := b"".join(islice(pieces, _PIECES_AT_ONCE)):
        yield piece


def _pieces(info: RunInfo, events: Iterable[StoredEvent], spans: Iterable[FinishedSpan]) -> Iterator[bytes]:
    packets = Packets()
    writers = Writers(packets, info.stage)
    counters = Counters(packets, writers, f"run {info.run} ({info.stage})")
    for number, event in enumerate(events):
        if number == 0:
            yield packets.first(event.time)
        yield from counters.feed(event)
    scene = _Scene(packets, writers)
    for span in spans:
        yield from scene.add(span)
    yield from scene.finish()


class _Scene:
    """What is drawn so far, and the stories that are not over."""

    def __init__(self, packets: Packets, writers: Writers) -> None:
        self._packets, self._writers = packets, writers
        self._stories: dict[str, list[FinishedSpan]] = {}
        self._lanes: dict[tuple[str, str], Lanes] = {}
        self._tracks: dict[tuple[str, str, int, int], int] = {}
        self._connections = _Connections(packets, writers)

    def add(self, span: FinishedSpan) -> list[bytes]:
        """Take a span; gives the packets of its story if that is over."""
        pieces = self._connections.draw(span)
        self._stories.setdefault(span.stream, []).append(span)
        if span.parent_span_id is None or span.step in _ROOTS:
            pieces += self._draw(self._stories.pop(span.stream))
        return pieces

    def finish(self) -> list[bytes]:
        """What is there of stories whose root has not ended: of a run that goes on."""
        pieces = [piece for story in self._stories.values() for piece in self._draw(story)]
        self._stories.clear()
        return pieces

    def _draw(self, story: list[FinishedSpan]) -> list[bytes]:
        story = _without_waiting(story)
        if not story:
            return []
        bars = [Bar(span.start_ns, span.end_ns, span) for span in reversed(story)]
        bars += [Bar(event.time_ns, event.time_ns, event) for span in story for event in span.events]
        start_ns, end_ns = min(bar.start_ns for bar in bars), max(bar.end_ns for bar in bars)
        writer, kind = story[-1].writer, story[-1].stream.partition("-")[0]
        lane = self._lanes.setdefault((writer, kind), Lanes()).take(start_ns, end_ns)
        pieces: list[bytes] = []
        links = _Links(story)
        for number, edges in enumerate(rows(bars)):
            track = self._track(writer, kind, lane, number, pieces)
            pieces += [self._edge(track, edge, links) for edge in edges]
        return pieces

    def _edge(self, track: int, edge: Edge, links: "_Links") -> bytes:
        """Cases: a slice ends; a moment; a slice begins."""
        if edge.bar is None:
            return self._packets.end(track, edge.time_ns)
        what = edge.bar.what
        if not isinstance(what, FinishedSpan):
            return self._packets.instant(track, edge.time_ns, what.name, what.attributes)
        name = what.stream if what.step == "request" else what.name
        arrows = links.begun[what.span_id], links.ended[what.span_id]
        return self._packets.begin(track, edge.time_ns, what.step, name, said(what), arrows)

    def _track(self, writer: str, kind: str, lane: int, row: int, pieces: list[bytes]) -> int:
        key = writer, kind, lane, row
        if key not in self._tracks:
            rank = lane + _REQUESTS_RANK * (kind == "request")
            name, parent = f"{_PLURALS.get(kind, kind)} {lane + 1}", self._writers.track(writer, pieces)
            if row:  # beside what it does not nest in
                name, parent, rank = f"{name}, {row + 1}", self._track(writer, kind, lane, 0, pieces), row
            self._tracks[key], piece = self._packets.track(name, parent, rank)
            pieces.append(piece)
        return self._tracks[key]


class _Connections:
    """A track for each connection, on which those that use it come one after the other.

    There are at most `CONNECTIONS_MAX` for each process: a new connection then takes the track of the one that was idle
    longest.
    """

    def __init__(self, packets: Packets, writers: Writers) -> None:
        self._packets, self._writers = packets, writers
        self._tracks: dict[str, dict[str, tuple[int, int]]] = {}  # the track, and since when it is free; by last use

    def draw(self, span: FinishedSpan) -> list[bytes]:
        """What an attempt is on the track of its connection."""
        connection = span.attributes.get(_CONNECTION)
        if span.step != "attempt" or not isinstance(connection, str):
            return []
        pieces: list[bytes] = []
        track, free_ns = self._track(span, connection, pieces)
        start_ns = max(span.start_ns, free_ns)
        end_ns = max(span.end_ns, start_ns)
        self._tracks[span.writer][connection] = track, end_ns
        attributes: dict[str, Attribute] = {"state": span.state, _CONNECTION: connection}
        pieces.append(self._packets.begin(track, start_ns, "connection", span.stream, attributes))
        pieces.append(self._packets.end(track, end_ns))
        return pieces

    def _track(self, span: FinishedSpan, connection: str, pieces: list[bytes]) -> tuple[int, int]:
        known = self._tracks.setdefault(span.writer, {})
        if connection in known:
            return known.pop(connection)
        if len(known) >= CONNECTIONS_MAX:
            return known.pop(next(iter(known)))
        address = f"{span.attributes.get('server.address')}:{span.attributes.get('server.port')}"
        process = self._writers.track(span.writer, pieces)
        number = len(known)
        track, piece = self._packets.track(f"connection {number + 1} {address}", process, _CONNECTIONS_RANK + number)
        pieces.append(piece)
        return track, 0


class _Links:
    """The arrows of a story, by the numbers of their flows: those that each slice begins, and those that end there.

    A link within the story has a number of its own. One from elsewhere has the number of the slice that it comes from,
    and every slice that may be gone on from names it: who had a connection, and whoever was not completed. If that one
    did not, there is no arrow, and no error either.
    """

    def __init__(self, story: list[FinishedSpan]) -> None:
        starts_ns = {span.span_id: span.start_ns for span in story}
        self.begun: dict[str, list[int]] = {span.span_id: [] for span in story}
        self.ended: dict[str, list[int]] = {span.span_id: [] for span in story}
        for span in story:
            own = int(span.span_id, 16)
            if span.state != "completed" or _CONNECTION in span.attributes:
                self.begun[span.span_id].append(own | _HANDED_ON)
            for link in span.links:
                other = int(link.span_id, 16)
                if link.span_id in starts_ns:
                    if starts_ns[link.span_id] >= span.start_ns:
                        continue  # steps that overlap: an arrow cannot go back in time
                    flow = (other * 3 + own) & _SIXTY_FOUR_BITS & ~_HANDED_ON
                    self.begun[link.span_id].append(flow)
                    self.ended[span.span_id].append(flow)
                elif span.step == "attempt" or link.trace_id == span.trace_id:
                    self.begun[span.span_id].append(other | _HANDED_ON)


def _without_waiting(story: list[FinishedSpan]) -> list[FinishedSpan]:
    """The story from when a worker took it. Empty if none did."""
    waits = [span for span in story if span.step == "queue"]
    begun = [span for span in story if span.step != "queue"]
    root = story[-1]
    if root.step != "request":
        return begun
    if not waits:
        return [] if len(begun) == 1 and root.state in {"cancelled", "interrupted"} else begun
    wait = waits[-1]
    waited: dict[str, Attribute] = {"eventflow.queue.seconds": wait.seconds}
    start_ns = min(wait.end_ns, root.end_ns)
    begun[-1] = msgspec.structs.replace(root, start_ns=start_ns, attributes=root.attributes | waited)
    return begun


def said(span: FinishedSpan) -> dict[str, Attribute]:
    """What a slice says beside its name and times."""
    found: dict[str, Attribute] = {"state": span.state}
    if span.message:
        found["message"] = span.message
    found |= span.attributes
    found["span_id"] = span.span_id
    if span.parent_span_id is None or span.step in _ROOTS:
        found["trace_id"] = span.trace_id
    return found
