"""Checking that a log says what was written: the chain of every batch, the order of every event, in every segment.

Invariants:
    bytes after the last whole batch are torn, not damaged, if a crash leaves such bytes: they were never acknowledged;
    any other byte that is not what was written is reported with file, offset and line.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from eventflow.errors import LogDamaged, NewerFormat
from eventflow.log.batches import Batch, Tail
from eventflow.log.format import Place, first_place
from eventflow.log.layout import SegmentFile, is_locked, list_segments, missing_segments, sealed_form, writer_folders
from eventflow.log.reader import SegmentTail
from eventflow.log.sealed import read_sealed


class SegmentReport(msgspec.Struct, frozen=True):
    """What the check of one segment found.

    Attributes:
        path: the segment.
        events: the events that are good.
        batches: the batches that are good.
        bytes: the size of the file.
        torn_bytes: what stands after the last whole batch and was never acknowledged.
        torn_events: how many whole events that holds.
        damage: the error's text, if the segment is damaged.
    """

    path: str
    events: int = 0
    batches: int = 0
    bytes: int = 0
    torn_bytes: int = 0
    torn_events: int = 0
    damage: str | None = None


def _decoder_of(run: str, writer: str) -> msgspec.json.Decoder[Any]:
    """Decodes the `seq` of events, and takes none that is of another run or writer."""
    fields = [("run", Literal[run]), ("writer", Literal[writer]), ("seq", int)]
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, gc=False))


def verify_run(log: Path, run: str, progress: Callable[[int], None] = lambda _bytes: None) -> Iterator[SegmentReport]:
    """Check every segment of a run, live and sealed: one report each. After a damaged one the next is checked alone.

    Args:
        log: `<store>/<run>/log`.
        run: the run.
        progress: is told the bytes of each segment when it is done.
    """
    for folder in writer_folders(log):
        yield from _verify_writer(folder, run, progress)


def _verify_writer(folder: Path, run: str, progress: Callable[[int], None]) -> Iterator[SegmentReport]:
    place: Place | None = first_place(run, folder.name)
    segments = list_segments(folder)
    expected = 0
    for segment in segments:
        if segment.number != expected:
            problem = missing_segments(folder, expected, segment.number)
            yield SegmentReport(problem.path, damage=str(problem))
            place = None
        expected = segment.number + 1
        check = _Check(segment, run, folder.name, place)
        try:
            report = check.report(is_last=segment is segments[-1])
        except FileNotFoundError:  # it was sealed meanwhile
            check = _Check(sealed_form(segment), run, folder.name, place)
            report = check.report(is_last=segment is segments[-1])
        progress(report.bytes)
        yield report
        place = None if report.damage else check.place


class _Check:
    """The check of one segment."""

    def __init__(self, segment: SegmentFile, run: str, writer: str, before: Place | None) -> None:
        self._segment = segment
        self._decoder = _decoder_of(run, writer)
        self.place = before
        self._events = self._batches = 0

    def report(self, *, is_last: bool) -> SegmentReport:
        size, tail, damage = self._segment.path.stat().st_size, Tail(), None
        try:
            tail = self._read(is_last=is_last)
        except (LogDamaged, NewerFormat) as problem:
            damage = str(problem)
        path = str(self._segment.path)
        return SegmentReport(path, self._events, self._batches, size, tail.bytes, tail.events, damage)

    def _read(self, *, is_last: bool) -> Tail:
        if self._segment.is_sealed:
            for batch in read_sealed(self._segment.path, self.place):
                self._take(batch, 0)
            return Tail()
        reading = SegmentTail(self._segment.path, self.place)
        start = 0
        for batch in reading.poll():
            self._take(batch, start)
            start = batch.end
        tail = reading.tail()
        if tail.bytes and not is_last:
            raise reading.damaged("bytes without a commit stand in a segment that is followed by another")
        if tail.problem and not is_locked(self._segment.path.parent):
            raise reading.damaged(tail.problem)
        return tail

    def _take(self, batch: Batch, start: int) -> None:
        """Every event of a batch is of this writer and in its place. `start` is the offset of the batch."""
        try:
            seqs = [event.seq for event in self._decoder.decode_lines(batch.lines)]
        except (ValueError, RecursionError) as problem:
            raise self._damaged(start, f"a line is not an event of this writer ({problem})") from problem
        first = batch.place.seq - batch.count + 1
        if seqs != list(range(first, first + batch.count)):
            raise self._damaged(start, f"its events are not those from {first} to {batch.place.seq}")
        self.place = batch.place
        self._events += batch.count
        self._batches += 1

    def _damaged(self, offset: int, problem: str) -> LogDamaged:
        return LogDamaged(str(self._segment.path), offset, self._batches + self._events + 1, problem)
