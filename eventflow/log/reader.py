"""Reading a run's log while it is being written, or after: in order, checked, without a lock.

Segments only grow, and a reader looks at no byte that is not covered by a commit line, so it never shows an event that
could vanish. Every batch is checked against its chain on the way, so it never shows one that was not written either.

Invariants:
    each committed event line is given exactly once by one tail, in the writer's order;
    what stands before damage is given, then the damage is raised, every time that it is met;
    memory is bounded by one block or batch, not by the log.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from heapq import merge
from io import FileIO
from pathlib import Path

import msgspec

from eventflow.errors import LogDamaged
from eventflow.event import StoredEvent
from eventflow.log.batches import Batch, BatchFold, Tail, commit_of, damaged_at, judge_tail
from eventflow.log.format import COMMIT_PREFIX, Place, decode_events, encode_commit, first_place
from eventflow.log.layout import (
    SegmentFile,
    is_locked,
    list_segments,
    require_gapless,
    sealed_form,
    sealed_name,
    segment_name,
    writer_folders,
)
from eventflow.log.sealed import read_sealed, sealed_bounds

_FIRST_BLOCK_BYTES = 64 << 10
_BLOCK_BYTES = 1 << 20
_COMMIT_BYTES_MAX = 1024

Position = Mapping[str, int]
"""How far a run was read: for each writer the `seq` of the last event; writers that are not named, from their start."""


class SegmentTail:
    """The whole batches of one live segment, as they come.

    Args:
        path: `<store>/<run>/log/<writer>/<number>.ndjson`.
        before: where the log stands before it; None: as its first line says.
    """

    def __init__(self, path: Path, before: Place | None = None) -> None:
        self.path = path
        self.fold = BatchFold(str(path), before)
        self._buffer = bytearray(_FIRST_BLOCK_BYTES)
        self._left = b""
        self._changed_ns = 0

    def poll(self) -> Iterator[Batch]:
        """Every whole batch since the last call.

        Raises:
            LogDamaged: a batch is not what was committed.
            FileNotFoundError: the file is gone: it was sealed meanwhile.
        """
        try:
            yield from self._poll()
        except LogDamaged:
            # Between two reads the next writer may have cut a torn tail and written on, and then the two do not fit.
            # No byte before `fold.offset` ever changes: what is damage is damage when it is looked at again.
            yield from self._poll()

    def _poll(self) -> Iterator[Batch]:
        buffer, filled = self._buffer, 0
        with self.path.open("rb", buffering=0) as file:
            self._changed_ns = os.fstat(file.fileno()).st_mtime_ns
            file.seek(self.fold.offset)
            while count := _read_into(file, buffer, filled):
                filled += count
                start = self.fold.offset
                yield from self.fold.feed(buffer, filled)
                used = self.fold.offset - start
                buffer[: filled - used] = buffer[used:filled]
                filled -= used
                if len(buffer) - filled < _BLOCK_BYTES and (filled or len(buffer) < _BLOCK_BYTES):
                    buffer += bytes(len(buffer))
        self._left = bytes(buffer[:filled])

    def damaged(self, problem: str) -> LogDamaged:
        """Damage that begins after the last whole batch."""
        return damaged_at(str(self.path), self.fold.offset, problem)

    def has_changed(self) -> bool:
        """Whether the file is not as the last poll found it. One system call.

        What follows a torn tail that was cut can be just as long, so then its time counts, too.

        Raises:
            FileNotFoundError: the file is gone: it was sealed meanwhile.
        """
        status = self.path.stat()
        is_longer = status.st_size != self.fold.offset + len(self._left)
        return is_longer or (bool(self._left) and status.st_mtime_ns != self._changed_ns)

    def tail(self) -> Tail:
        """What stood after the last whole batch at the end of the last poll."""
        place = self.fold.place or first_place(self.path.parents[2].name, self.path.parent.name)
        return judge_tail(self._left, place, is_open=self.fold.is_open)


class WriterTail:
    """The whole batches of one writer of a run, as they come, over all its segments in either form.

    Args:
        folder: `<store>/<run>/log/<writer>`.
        after: the `seq` of the last event that is not wanted any more.
    """

    def __init__(self, folder: Path, after: int = -1) -> None:
        self.folder = folder
        self.seq = after
        self._number = 0
        self._place: Place | None = first_place(folder.parents[1].name, folder.name)
        self._live: SegmentTail | None = None
        if after >= 0:
            self._go_to(after)

    def poll(self) -> Iterator[Batch]:
        """Every whole batch with an event after `seq`, which moves on with each. The first may begin before.

        Raises:
            LogDamaged: the log is not what was written; what stands before was given.
        """
        while True:
            segments = list_segments(self.folder)
            require_gapless(self.folder, segments)
            if self._number >= len(segments):
                return
            segment, is_last = segments[self._number], self._number == len(segments) - 1
            try:
                for batch in self._batches(segment):
                    if batch.place.seq > self.seq:
                        self.seq = batch.place.seq
                        yield batch
            except FileNotFoundError:
                if segment in list_segments(self.folder):
                    raise
                continue  # it was sealed meanwhile: the same batches are there in the other form
            if segment.is_sealed or not is_last:
                self._leave(segment)
            if is_last:
                return

    @property
    def path(self) -> Path:
        """The segment that the last batch is from."""
        return self._live.path if self._live else self.folder / sealed_name(self._number)

    def may_have_news(self) -> bool:
        """Whether `poll` could give something. Two system calls."""
        if self._live is None:
            return True
        try:
            return self._live.has_changed() or (self.folder / segment_name(self._number + 1)).exists()
        except FileNotFoundError:
            return True

    def require_torn_only(self) -> None:
        """After the last poll: of a log that nobody writes, what is left must be what a crash leaves behind.

        Raises:
            LogDamaged: it is not.
        """
        if self._live is not None and (problem := self._live.tail().problem) and not is_locked(self.folder):
            raise self._live.damaged(problem)

    def _batches(self, segment: SegmentFile) -> Iterator[Batch]:
        if segment.is_sealed:
            self._live = None
            yield from read_sealed(segment.path, self._place)
            return
        if self._live is None:
            self._live = SegmentTail(segment.path, self._place)
        yield from self._live.poll()

    def _leave(self, segment: SegmentFile) -> None:
        """Nothing can come in this segment any more."""
        self._number += 1
        if self._live is None:
            self._place = sealed_bounds(segment.path).last
        elif self._live.tail().bytes:
            raise self._live.damaged("bytes without a commit stand in a segment that is followed by another")
        else:
            self._place, self._live = self._live.fold.place, None

    def _go_to(self, seq: int) -> None:
        """Begin with the last segment that begins at or before an event."""
        segments = list_segments(self.folder)
        require_gapless(self.folder, segments)
        for segment in reversed(segments):
            place = place_before(segment)
            if place is not None and place.seq <= seq:
                self._number, self._place = segment.number, None
                return


class RunTail:
    """The committed event lines of all writers of a run, as they come.

    Args:
        log: `<store>/<run>/log`.
        after: where to begin.
    """

    def __init__(self, log: Path, after: Position | None = None) -> None:
        self._log = log
        self._after = dict(after or {})
        self._tails: dict[Path, WriterTail] = {}

    @property
    def position(self) -> dict[str, int]:
        """How far it was read: what to give as `after` to go on from here."""
        return self._after | {tail.folder.name: tail.seq for tail in self._tails.values()}

    def poll(self) -> Iterator[list[bytes]]:
        """The event lines that were committed since the last call, in lists.

        Each list is from one writer and in its order.

        Raises:
            LogDamaged: the log is not what was written; what stands before was given.
        """
        for tail in self._writers():
            before = tail.seq
            for batch in tail.poll():
                yield wanted_lines(batch, before)
                before = batch.place.seq

    def _writers(self) -> list[WriterTail]:
        for folder in writer_folders(self._log):
            if folder not in self._tails:
                self._tails[folder] = WriterTail(folder, self._after.get(folder.name, -1))
        return list(self._tails.values())


def _read_into(file: FileIO, buffer: bytearray, start: int) -> int:
    """Read what is there, as far as it fits behind `start`. 0 at the end of the file."""
    with memoryview(buffer) as view, view[start:] as room:
        return file.readinto(room) or 0


def place_before(segment: SegmentFile) -> Place | None:
    """Where the log stands before a segment, as its first line says. None if that line is not there."""
    if segment.is_sealed:
        return sealed_bounds(segment.path).first
    try:
        with segment.path.open("rb") as file:
            line = file.readline(_COMMIT_BYTES_MAX)
    except FileNotFoundError:
        return sealed_bounds(sealed_form(segment).path).first
    if not line.startswith(COMMIT_PREFIX) or not line.endswith(b"\n"):
        return None
    _, place = commit_of(line, str(segment.path), 0)
    return place


def place_after(segment: SegmentFile) -> Place | None:
    """Where the log stands after a segment, as its last line says. None if that is not a commit line."""
    if segment.is_sealed:
        return sealed_bounds(segment.path).last
    try:
        with segment.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _COMMIT_BYTES_MAX))
            end = b"\n" + file.read()
    except FileNotFoundError:
        return sealed_bounds(sealed_form(segment).path).last
    line = end[end.rfind(b"\n", 0, -1) + 1 :]
    if not line.startswith(COMMIT_PREFIX) or not line.endswith(b"\n"):
        return None
    try:
        _, place = commit_of(line, str(segment.path), size - len(line))
    except LogDamaged:
        for _ in SegmentTail(segment.path).poll():  # raises the same, with the place where its batch begins
            pass
        raise
    return place


def wanted_lines(batch: Batch, after: int) -> list[bytes]:
    """The event lines of a batch, without newlines: those after the event of that `seq`."""
    lines = batch.lines.split(b"\n")
    lines.pop()
    skipped = after - (batch.place.seq - batch.count)
    return lines[skipped:] if skipped > 0 else lines


def read_events(
    log: Path,
    *,
    after: Position | None = None,
    streams: Collection[str] = (),
    types: Collection[str] = (),
) -> Iterator[StoredEvent]:
    """All committed events of a run, by time, and each writer's in its own order.

    Args:
        log: `<store>/<run>/log`.
        after: only those after this position.
        streams: only those of these streams; all if empty.
        types: only those of these types; all if empty. A name that ends with a dot stands for all that begin with it.

    Raises:
        LogDamaged: the log is not what was written, or ends in bytes that no crash leaves behind. All that stands
            before, in the log of that writer, was given.
    """
    wanted = EventFilter(streams, types)
    writers = [
        _writer_events(WriterTail(folder, (after or {}).get(folder.name, -1)), wanted) for folder in writer_folders(log)
    ]
    return writers[0] if len(writers) == 1 else merge(*writers, key=lambda event: event.time)


class EventFilter:
    """Which events a reader wants: by stream and by type, looked for in the bytes before anything is decoded."""

    def __init__(self, streams: Collection[str] = (), types: Collection[str] = ()) -> None:
        self._streams, self._types = frozenset(streams), tuple(types)
        self._marks = [msgspec.json.encode(stream) for stream in streams]
        self._types_exact = frozenset(types)
        self._prefixes = tuple(name for name in types if name.endswith("."))

    def events(self, lines: bytes) -> list[StoredEvent]:
        """The wanted ones of the events of some lines, newlines included.

        Raises:
            ValueError: a line is not an event, as msgspec sees it, or not UTF-8.
        """
        if not self._streams and not self._types:
            return decode_events(lines)
        if self._marks and not any(mark in lines for mark in self._marks):
            return []
        return [event for event in decode_events(lines) if self._takes(event)]

    def _takes(self, event: StoredEvent) -> bool:
        if self._streams and event.stream not in self._streams:
            return False
        return not self._types or event.type in self._types_exact or event.type.startswith(self._prefixes)


def batch_events(batch: Batch, after: int, wanted: EventFilter, path: Path) -> list[StoredEvent]:
    """The wanted events of a batch of the segment `path`, those after that `seq`.

    Raises:
        LogDamaged: a committed line is not an event: whoever wrote it was no eventflow.
    """
    try:
        events = wanted.events(batch.lines)
    except (ValueError, RecursionError) as problem:
        size = len(batch.lines) + len(encode_commit(batch.count, batch.place.seq, batch.place.chain))
        raise damaged_at(str(path), max(0, batch.end - size), f"a line is not an event ({problem})") from problem
    if after <= batch.place.seq - batch.count:
        return events
    return [event for event in events if event.seq > after]


def _writer_events(tail: WriterTail, wanted: EventFilter) -> Iterator[StoredEvent]:
    before = tail.seq
    for batch in tail.poll():
        yield from batch_events(batch, before, wanted, tail.path)
        before = batch.place.seq
    tail.require_torn_only()
