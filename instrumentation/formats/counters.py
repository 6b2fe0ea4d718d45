"""What changes with time in a run, as counters of a Perfetto trace: requests by state, memory, limits."""

from collections import defaultdict

from eventflow import vocabulary as said
from eventflow.event import StoredEvent
from eventflow.measuring_events import ProcessSampled
from eventflow.origin_events import LimitChanged
from eventflow.vocabulary import decode_payload
from instrumentation.formats.packets import Packets
from instrumentation.formats.writers import Writers

TYPES = frozenset(
    (
        said.RunStarted.TYPE,
        said.ProcessStarted.TYPE,
        said.RequestQueued.TYPE,
        said.RequestStarted.TYPE,
        said.RequestCompleted.TYPE,
        said.RequestFailed.TYPE,
        said.RequestCancelled.TYPE,
        ProcessSampled.TYPE,
        LimitChanged.TYPE,
    )
)
"""The events that change a counter, and those that name a process."""
_OF_RUN = ("in flight", "waiting", "completed", "failed", "cancelled")


class Counters:
    """Turns events, which come by time, into packets."""

    def __init__(self, packets: Packets, writers: Writers, title: str) -> None:
        self._packets, self._writers, self._title = packets, writers, title
        self._waiting: set[str] = set()
        self._in_flight: set[str] = set()
        self._ended: dict[str, int] = defaultdict(int)
        self._shown: dict[str, int] = {}
        self._tracks: dict[tuple[str, str], int] = {}
        self._run: int | None = None

    def feed(self, event: StoredEvent) -> list[bytes]:
        """Take one event; gives the packets that it makes."""
        pieces: list[bytes] = []
        if event.type not in TYPES:
            return pieces
        match decode_payload(event):
            case said.ProcessStarted() as process:
                if process.role != "program":
                    self._writers.started(event.writer, process)
                    self._writers.track(event.writer, pieces)
            case ProcessSampled() as sample:
                self._sampled(event.time, sample, pieces)
            case LimitChanged(origin=origin, limit=limit):
                self._count(event.time, f"limit {origin}", limit, pieces, writer=event.writer)
            case said.RunStarted():  # what was in flight when the run was killed is not any more
                self._waiting.clear()
                self._in_flight.clear()
            case _:
                self._request(event)
        for name, value in self._standing().items():
            if self._shown.get(name) != value:
                self._shown[name] = value
                self._count(event.time, name, value, pieces)
        return pieces

    def _request(self, event: StoredEvent) -> None:
        state = event.type.rpartition(".")[2]
        self._waiting.discard(event.stream)
        self._in_flight.discard(event.stream)
        match state:
            case "queued":
                self._waiting.add(event.stream)
            case "started":
                self._in_flight.add(event.stream)
            case "completed" | "failed" | "cancelled":
                self._ended[state] += 1

    def _standing(self) -> dict[str, int]:
        counts = {"in flight": len(self._in_flight), "waiting": len(self._waiting)}
        return counts | {name: self._ended[name] for name in _OF_RUN[2:]}

    def _sampled(self, time_ns: int, sample: ProcessSampled, pieces: list[bytes]) -> None:
        """The whole run's memory, that of each process that writes a log, and that of all others together."""
        self._count(time_ns, f"memory ({sample.memory_kind})", sample.memory_bytes, pieces, unit="bytes")
        others, has_others = 0, ("", "memory of other processes") in self._tracks
        for process in sample.processes:
            writer = self._writers.of(process.pid)
            if writer is None:
                others, has_others = others + process.memory_bytes, True
            else:
                self._count(time_ns, "memory", process.memory_bytes, pieces, unit="bytes", writer=writer)
        if has_others:
            self._count(time_ns, "memory of other processes", others, pieces, unit="bytes")

    def _count(
        self, time_ns: int, name: str, value: int, pieces: list[bytes], *, unit: str = "", writer: str = ""
    ) -> None:
        key = writer, name
        if key not in self._tracks:
            parent = self._writers.track(writer, pieces) if writer else self._group(pieces)
            self._tracks[key], piece = self._packets.counter(name, unit, parent, len(self._tracks))
            pieces.append(piece)
        pieces.append(self._packets.count(self._tracks[key], time_ns, value))

    def _group(self, pieces: list[bytes]) -> int:
        if self._run is None:
            self._run, piece = self._packets.track(self._title)
            pieces.append(piece)
        return self._run
