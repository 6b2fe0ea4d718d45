"""Appending: one process's own log, a sequence of segments that it alone writes.

The single-writer principle: each process of a run has its own folder and its own lock, so there is nothing to wait for,
any number of readers may look on, and a crash of one process cannot hurt the log of another.

Invariants:
    `append` returns only when the batch is on disk; if it raises, the batch does not count and the segment is never
    written again; a file holds whole batches, and at most one torn one at its end after a crash.
"""

import contextlib
import errno
import os
from pathlib import Path

from eventflow.disk import Disk
from eventflow.errors import LogWriteFailed
from eventflow.log.format import advance, encode_commit, genesis

SEGMENT_BYTES_MAX = 64 << 20


def segment_name(number: int) -> str:
    """The file name of a writer's n-th live segment."""
    return f"{number:08}.ndjson"


class LogWriter:
    """The log of one writer of one run. Not safe for several threads at once; the recorder's writer thread owns it.

    Args:
        folder: `<store>/<run>/log`; the writer's own folder is made in it.
        run: the run.
        writer: the writer's name, new for each process.
        disk: the operating system, or a test's idea of it.
        segment_bytes_max: a new segment begins after the batch that passes this size.

    Raises:
        LogWriteFailed: the first segment could not be made.
    """

    def __init__(
        self, folder: Path, run: str, writer: str, disk: Disk | None = None, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> None:
        self.run, self.writer = run, writer
        self.folder = folder / writer
        self.seq = -1
        self._disk = disk or Disk()
        self._segment_bytes_max = segment_bytes_max
        self._chain = genesis(run, writer)
        self._number = 0
        self._descriptor: int | None = None
        self._size = 0
        self._failed: LogWriteFailed | None = None
        with self._fail_stop():
            self.folder.mkdir(mode=0o700)
            self._disk.sync_folder(folder)
            self._open_segment()

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self.folder / segment_name(self._number)

    def append(self, lines: bytes, count: int) -> None:
        """Make a batch of `count` event lines durable: one write, one fdatasync.

        Raises:
            LogWriteFailed: the batch does not count; what was there before does. Every later call raises the same
                error.
        """
        if self._failed:
            raise self._failed
        chain = advance(self._chain, lines)
        seq = self.seq + count
        batch = lines + encode_commit(count, seq, chain)
        with self._fail_stop():
            descriptor = self._require_open()
            self._disk.write_all(descriptor, batch)
            self._disk.sync(descriptor)
        self._chain, self.seq = chain, seq
        self._size += len(batch)
        if self._size >= self._segment_bytes_max:
            self._rotate()

    def close(self) -> None:
        """Release the segment. Idempotent. What was appended is on disk already."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def abandon_in_child(self) -> None:
        """In a forked child: let go of the inherited descriptor, so that the lock ends with the parent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _require_open(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the segment is closed")
        return self._descriptor

    def _open_segment(self) -> None:
        self._descriptor = self._disk.create(self.path)
        self._disk.lock(self._descriptor)
        opening = encode_commit(0, self.seq, self._chain)
        self._disk.write_all(self._descriptor, opening)
        self._disk.sync(self._descriptor)
        self._disk.sync_folder(self.folder)
        self._size = len(opening)

    def _rotate(self) -> None:
        with self._fail_stop():
            self.close()
            self._number += 1
            self._open_segment()

    def _fail_stop(self) -> "_FailStop":
        return _FailStop(self)

    def _stop_for_good(self, problem: OSError) -> LogWriteFailed:
        """After a failed write or fsync nobody knows what the kernel kept.

        Cut to the last commit if that can be done, write no more.
        """
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._disk.truncate(self._descriptor, self._size)
            with contextlib.suppress(OSError):
                self.close()
        self._failed = LogWriteFailed(str(self.path), problem.strerror or str(problem))
        return self._failed


class _FailStop:
    """Turns an OSError into the writer's end."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._writer._stop_for_good(error) from error  # noqa: SLF001  (one class in two pieces)
