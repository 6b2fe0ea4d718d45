"""What the samples of a run say of its processes: of each for itself, and of all together.

A sample names processes by their numbers, and whoever recorded it writes a log of its own, as do worker processes.
Which log is whose follows from `process.started`, which may be read later than the samples. So readings are kept by
number, and put to the processes when points are made.

Invariants:
    a reading belongs to the process that had its number when it was taken;
    of at most `READINGS_MAX` processes that ended the last reading is kept.
"""

from collections.abc import Collection, Iterator

import msgspec

from eventflow.measuring_events import MemoryKind, ProcessMeasured, ProcessReading, ProcessSampled
from instrumentation.measures import instruments
from instrumentation.measures.book import Book
from instrumentation.measures.instruments import Instrument
from instrumentation.measures.point import Key, Number, Point

READINGS_MAX = 4096
USER: Key = ((instruments.CPU_MODE, "user"),)
SYSTEM: Key = ((instruments.CPU_MODE, "system"),)
_SWITCHES = tuple(((instruments.SWITCH_TYPE, kind),) for kind in ("voluntary", "involuntary"))
_MAJOR: Key = ((instruments.FAULT_TYPE, "major"),)
_DISK = tuple(((instruments.DISK_DIRECTION, direction),) for direction in ("read", "write"))
_NETWORK = tuple(((instruments.NETWORK_DIRECTION, direction),) for direction in ("receive", "transmit"))


class _Kept(msgspec.Struct, frozen=True):
    time_ns: int
    reading: ProcessReading
    memory_kind: MemoryKind


class Processes:
    """The processes of one sitting, as its samples show them."""

    def __init__(self) -> None:
        self._last: ProcessSampled | None = None
        self._last_ns = 0
        self._kept: dict[int, _Kept] = {}

    def sampled(self, time_ns: int, sample: ProcessSampled) -> None:
        """One more sample. They come in order, since one process takes them all."""
        self._last, self._last_ns = sample, time_ns
        for reading in sample.processes:
            self._kept.pop(reading.pid, None)
            self._kept[reading.pid] = _Kept(time_ns, reading, sample.memory_kind)
        while len(self._kept) > READINGS_MAX + len(sample.processes):
            del self._kept[next(iter(self._kept))]

    def lives(self, book: Book) -> bool:
        """Whether the process was there at the last sample; also if there is none, or its number is not known."""
        if self._last is None or book.pid is None or self._last_ns < book.start_ns:
            return True
        return any(reading.pid == book.pid for reading in self._last.processes)

    def of_run(self) -> Iterator[tuple[Instrument, Key, Number]]:
        """What all processes together have and use now."""
        sample = self._last
        if sample is None:
            return
        yield instruments.RUN_MEMORY, ((instruments.MEMORY_KIND, sample.memory_kind),), sample.memory_bytes
        yield instruments.RUN_PROCESSES, (), len(sample.processes)
        yield instruments.RUN_THREADS, (), sum(reading.threads for reading in sample.processes)
        if descriptors := sum(reading.descriptors for reading in sample.processes):
            yield instruments.RUN_DESCRIPTORS, (), descriptors

    def points(self, books: Collection[Book], time_ns: int) -> dict[str, list[Point]]:
        """What each process has and uses, by its writer: of one that has ended what it used."""
        owners: dict[int, Book] = {}
        for book in sorted(books, key=lambda book: (book.start_ns, book.writer)):
            kept = self._kept.get(book.pid) if book.pid is not None else None
            if kept is not None and kept.time_ns >= book.start_ns:
                owners[kept.reading.pid] = book
        return {
            book.writer: [book.point(*said, time_ns) for said in self._of(self._kept[pid], book)]
            for pid, book in owners.items()
        }

    def _of(self, kept: _Kept, book: Book) -> Iterator[tuple[Instrument, Key, Number]]:
        reading = kept.reading
        if reading.user_seconds or reading.system_seconds:
            yield instruments.CPU, SYSTEM, reading.system_seconds
            yield instruments.CPU, USER, reading.user_seconds
        if not self.lives(book):
            return
        yield instruments.MEMORY, ((instruments.MEMORY_KIND, kept.memory_kind),), reading.memory_bytes
        yield instruments.THREADS, (), reading.threads
        if reading.descriptors:
            yield instruments.DESCRIPTORS, (), reading.descriptors


def account(book: Book, measured: ProcessMeasured) -> None:
    """What the kernel's accounts say that the run's process and its ended children have used, put into its book."""
    said: list[tuple[Instrument, Key, Number | None]] = [
        (instruments.RUN_CPU_ACCOUNTED, USER, measured.user_seconds),
        (instruments.RUN_CPU_ACCOUNTED, SYSTEM, measured.system_seconds),
        (instruments.RUN_SWITCHES, _SWITCHES[0], measured.voluntary_switches),
        (instruments.RUN_SWITCHES, _SWITCHES[1], measured.involuntary_switches),
        (instruments.RUN_FAULTS, _MAJOR, measured.major_faults),
        (instruments.RUN_DISK, _DISK[0], measured.disk_read_bytes),
        (instruments.RUN_DISK, _DISK[1], measured.disk_written_bytes),
        (instruments.RUN_NETWORK, _NETWORK[0], measured.network_received_bytes),
        (instruments.RUN_NETWORK, _NETWORK[1], measured.network_sent_bytes),
        (instruments.RUN_SAMPLING, (), measured.sampling_seconds),
        (instruments.RUN_ENERGY, *_energy(measured)),
    ]
    for instrument, key, amount in said:
        if amount is not None:
            book.raise_to(instrument, key, amount)


def _energy(measured: ProcessMeasured) -> tuple[Key, float | None]:
    if measured.energy_measured_joules is not None:
        return ((instruments.ENERGY_SOURCE, "measured"),), measured.energy_measured_joules
    is_desktop = measured.energy_class == "desktop"
    joules = measured.energy_desktop_joules if is_desktop else measured.energy_server_joules
    return ((instruments.ENERGY_SOURCE, "modelled"),), joules if measured.energy_class else None
