"""Reading a run's log while it is being written, or after.

A reader needs no lock: segments only grow, and it looks at no byte that is not covered by a commit line, so it never
shows an event that could vanish.

Invariants:
    each committed event line is given exactly once by one tail, in the writer's order;
    memory is bounded by the largest batch, not by the log.
"""

from collections.abc import Iterator
from heapq import merge
from pathlib import Path

import msgspec

from eventflow.errors import LogDamaged
from eventflow.event import StoredEvent
from eventflow.log.format import committed_length, decode_event, event_lines

_BLOCK_BYTES = 4 << 20


class SegmentTail:
    """The committed bytes of one segment, as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._block_bytes = _BLOCK_BYTES

    def poll(self) -> Iterator[bytes]:
        """Every whole batch since the last call, in pieces of some megabytes: bytes that end with a commit line."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while True:
                block = file.read(self._block_bytes)
                length = committed_length(block)
                if length:
                    self._block_bytes = _BLOCK_BYTES
                    self.offset += length
                    file.seek(self.offset)
                    yield block[:length]
                elif len(block) == self._block_bytes:  # one batch is larger than the block
                    self._block_bytes *= 2
                    file.seek(self.offset)
                else:
                    return


class RunTail:
    """The committed event lines of all writers of a run, as they come.

    Args:
        log: `<store>/<run>/log`.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._tails: dict[Path, SegmentTail] = {}

    def poll(self) -> Iterator[list[bytes]]:
        """The event lines that were committed since the last call, in lists.

        Each list is from one writer and in its order.
        """
        for path in segment_paths(self._log):
            tail = self._tails.setdefault(path, SegmentTail(path))
            for data in tail.poll():
                lines = event_lines(data)
                if lines:
                    yield lines


def writer_folders(log: Path) -> list[Path]:
    """The folders of the writers of a run, in the order of their names."""
    if not log.is_dir():
        return []
    return sorted(path for path in log.iterdir() if path.is_dir() and not path.is_symlink())


def writer_segments(folder: Path) -> list[Path]:
    """The live segments of one writer, in order."""
    return sorted(path for path in folder.glob("*.ndjson") if not path.is_symlink())


def segment_paths(log: Path) -> list[Path]:
    """All live segments of a run: each writer's in order."""
    return [path for folder in writer_folders(log) for path in writer_segments(folder)]


def read_events(log: Path) -> Iterator[StoredEvent]:
    """All committed events of a run, by time, and each writer's in its own order.

    Raises:
        LogDamaged: a committed line is not an event.
    """
    writers = [_writer_events(folder) for folder in writer_folders(log)]
    return merge(*writers, key=lambda event: event.time)


def _writer_events(folder: Path) -> Iterator[StoredEvent]:
    for path in writer_segments(folder):
        tail = SegmentTail(path)
        start = 0
        for data in tail.poll():
            yield from _decode(data, path, start)
            start = tail.offset


def _decode(data: bytes, path: Path, start: int) -> Iterator[StoredEvent]:
    for line in event_lines(data):
        try:
            yield decode_event(line)
        except msgspec.MsgspecError as problem:
            offset = start + data.find(line)
            raise LogDamaged(str(path), offset, _line_number(path, offset), str(problem)) from problem


def _line_number(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        return file.read(offset).count(b"\n") + 1
