"""Events of several processes, made by hand, as a reader of their logs would give them."""

from collections import defaultdict

import msgspec

from eventflow.event import Event, Payload, StoredEvent
from eventflow.log.format import decode_event
from eventflow.measuring_events import ProcessReading, ProcessSampled
from eventflow.vocabulary import ProcessStarted, RequestQueued, RunStarted
from instrumentation.measures import MeasureFold, Point

SECOND = 1_000_000_000
START = 1_795_438_800 * SECOND
MIB = 1 << 20
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Told:
    """What was told, in the order in which it was; `at` is seconds after `START`."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._seqs: defaultdict[str, int] = defaultdict(int)

    def say(self, writer: str, stream: str, *payloads: Payload, at: float = 0.0) -> None:
        """A process records events in a stream, all at one moment."""
        for payload in payloads:
            version, seq = self._versions[stream], self._seqs[writer]
            self._versions[stream], self._seqs[writer] = version + 1, seq + 1
            event = Event(
                f"01a2087f-7a22-7201-9ebf-{len(self.events):012x}",
                payload.TYPE,
                START + int(at * SECOND),
                "r",
                stream,
                version,
                writer,
                seq,
                TRACE,
                SPAN,
                payload,
            )
            self.events.append(decode_event(msgspec.json.encode(event)))

    def fold(self, total: int | None = None) -> MeasureFold:
        """A fold that was fed all of it."""
        fold = MeasureFold(total)
        for event in self.events:
            fold.feed(event)
        return fold

    def points(self, at: float = 60.0, total: int | None = None) -> list[Point]:
        """The points so many seconds after the start."""
        return self.fold(total).points(START + int(at * SECOND))


def values(points: list[Point], name: str, writer: str | None = None) -> dict[tuple[object, ...], int | float]:
    """What an instrument shows, by the values of its attributes."""
    return {
        tuple(point.attributes.values()): point.value
        for point in points
        if point.name == name and writer in {None, point.writer}
    }


def shown_of(points: list[Point], name: str) -> list[tuple[str, int | float]]:
    """What an instrument without attributes shows, by process, in their order."""
    return [(point.writer, point.value) for point in points if point.name == name]


def begun(told: Told, writer: str = "main", pid: int = 100, at: float = 0.0, *, resumed: bool = False) -> None:
    """A process begins to carry the run on."""
    told.say(
        writer,
        "run",
        RunStarted(stage="loop", workers=8, resumed=resumed),
        ProcessStarted(pid=pid, role="main"),
        at=at,
    )


def queued(number: int) -> Payload:
    """A request is read from the input."""
    return RequestQueued(number=number, url=f"https://h.example/{number}", name=f"{number}")


def reading(pid: int, user: float = 1.0, memory: int = MIB, threads: int = 2) -> ProcessReading:
    """A process that used half as much time in the kernel."""
    return ProcessReading(pid, memory, user * 1.5, threads, 0, 7, user, user / 2)


def sample(*readings: ProcessReading) -> ProcessSampled:
    """A sample of these."""
    return ProcessSampled(
        memory_bytes=sum(one.memory_bytes for one in readings),
        memory_kind="pss",
        cpu_seconds=sum(one.cpu_seconds for one in readings),
        processes=readings,
        sampling_seconds=0.001,
        peak_bytes=10 * MIB,
    )
