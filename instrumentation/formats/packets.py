"""The packets of a Perfetto trace: tracks, what is on them, and counters (perfetto.dev, "Writing TrackEvents Protos").

This format rather than Chrome's JSON, which Perfetto opens as well: times are whole nanoseconds (there they are
microseconds with a fraction, which at today's date are exact to a quarter of one), tracks have parents and an order,
arrows need no slices of their own, and a file is smaller. It is written by hand, so it needs no package.

Invariants:
    all packets are of one sequence, which begins with the first and whose names are all told before they are used;
    a track is described before anything is on it.
"""

from collections.abc import Iterable, Mapping

from instrumentation.formats.protobuf import double, fixed, integer, message, text
from instrumentation.traces.span import Attribute

_TRACE_PACKET = 1
_SEQUENCE = 1
_TIMESTAMP, _CLOCKS, _SEQUENCE_ID, _TRACK_EVENT, _INTERNED, _SEQUENCE_FLAGS, _DESCRIPTOR = 8, 6, 10, 11, 12, 13, 60
_CLEARED, _NEEDS_STATE = 1, 2
_REALTIME, _BOOTTIME = 1, 6
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_EXPLICIT = 3
_NOT_MERGED = 2
_UNITS = {"bytes": 3, "": 2}

_HEAD = integer(_SEQUENCE_ID, _SEQUENCE) + integer(_SEQUENCE_FLAGS, _NEEDS_STATE)


class Packets:
    """Makes packets. What it gives is to be written in this order."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, str], int] = {}
        self._news: list[bytes] = []  # names that the next packet has to tell
        self._tracks = 0

    def first(self, time_ns: int) -> bytes:
        """What a trace begins with: its clock is the wall clock, so that Perfetto can show the time of day."""
        clocks = (message(1, integer(1, clock), integer(2, time_ns)) for clock in (_BOOTTIME, _REALTIME))
        snapshot = message(_CLOCKS, *clocks, integer(2, _BOOTTIME))
        head = integer(_SEQUENCE_ID, _SEQUENCE) + integer(_SEQUENCE_FLAGS, _CLEARED)
        return message(_TRACE_PACKET, integer(_TIMESTAMP, time_ns), head, snapshot)

    def track(self, name: str, parent: int | None = None, rank: int = 0) -> tuple[int, bytes]:
        """A new track below another one, in the order of the ranks; its number and its packet."""
        return self._describe(text(2, name), parent, rank)

    def process(self, pid: int, name: str) -> tuple[int, bytes]:
        """A new track for a process, under which Perfetto shows what belongs to it. No two may have one id."""
        return self._describe(message(3, integer(1, pid), text(6, name)), None, 0)

    def counter(self, name: str, unit: str = "", parent: int | None = None, rank: int = 0) -> tuple[int, bytes]:
        """A new track for a number that changes, in `bytes` or a count."""
        return self._describe(text(2, name) + message(8, integer(3, _UNITS[unit])), parent, rank)

    def _describe(self, fields: bytes, parent: int | None, rank: int) -> tuple[int, bytes]:
        self._tracks += 1
        placed = b"" if parent is None else integer(5, parent) + integer(12, rank)
        described = (integer(1, self._tracks), fields, placed, integer(11, _EXPLICIT), integer(15, _NOT_MERGED))
        return self._tracks, message(_TRACE_PACKET, _HEAD, message(_DESCRIPTOR, *described))

    def begin(
        self,
        track: int,
        time_ns: int,
        category: str,
        name: str,
        attributes: Mapping[str, Attribute],
        arrows: tuple[Iterable[int], Iterable[int]] = ((), ()),
    ) -> bytes:
        """A slice begins on a track. `arrows` are the numbers of those that begin here, and of those that end here."""
        event = [
            integer(9, _BEGIN),
            integer(11, track),
            integer(3, self._name(1, category)),
            text(23, name),
            *(self._annotation(key, value) for key, value in attributes.items()),
            *(fixed(47, flow) for flow in arrows[0]),
            *(fixed(48, flow) for flow in arrows[1]),
        ]
        return self._event(time_ns, event)

    def end(self, track: int, time_ns: int) -> bytes:
        """The innermost slice of a track ends."""
        return self._event(time_ns, (integer(9, _END), integer(11, track)))

    def instant(self, track: int, time_ns: int, name: str, attributes: Mapping[str, Attribute]) -> bytes:
        """A moment on a track."""
        annotations = (self._annotation(key, value) for key, value in attributes.items())
        named = integer(10, self._name(2, name))
        return self._event(time_ns, [integer(9, _INSTANT), integer(11, track), named, *annotations])

    def count(self, track: int, time_ns: int, value: int) -> bytes:
        """A counter has this value from now on."""
        return self._event(time_ns, (integer(9, _COUNTER), integer(11, track), integer(30, value)))

    def _event(self, time_ns: int, fields: Iterable[bytes]) -> bytes:
        interned = b""
        if self._news:
            interned = message(_INTERNED, *self._news)
            self._news.clear()
        return message(_TRACE_PACKET, integer(_TIMESTAMP, time_ns), _HEAD, interned, message(_TRACK_EVENT, *fields))

    def _name(self, kind: int, name: str) -> int:
        """The number that stands for a category (1), an event's name (2) or an annotation's (3), in this sequence."""
        number = self._names.get((kind, name))
        if number is None:
            number = self._names[kind, name] = len(self._names) + 1
            self._news.append(message(kind, integer(1, number), text(2, name)))
        return number

    def _annotation(self, name: str, value: Attribute) -> bytes:
        named = integer(1, self._name(3, name))
        match value:
            case bool():
                return message(4, named, integer(2, int(value)))
            case str():
                return message(4, named, text(6, value))
            case int():
                return message(4, named, integer(4, value))
            case float():
                return message(4, named, double(5, value))
            case _:
                return message(4, named, *(message(12, text(6, each)) for each in value))
