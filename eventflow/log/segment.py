"""Appending: one process's own log, a sequence of segments that it alone writes.

The single-writer principle: each process of a run has its own folder and its own lock, so there is nothing to wait for,
any number of readers may look on, and a crash of one process cannot hurt the log of another.

Invariants:
    `append` returns only when the batch is on disk; if it raises, the batch does not count and the segment is never
    written again through this object; a file holds whole batches, and at most one torn one at its end after a crash.
"""

import contextlib
import os
from pathlib import Path

from eventflow.disk import Disk, abandon_in_children
from eventflow.errors import EventflowError, LogBusy, LogClosed, LogWriteFailed, StoreError
from eventflow.log.batches import Tail
from eventflow.log.format import Place, advance, encode_commit, first_place
from eventflow.log.layout import LOCK_NAME, segment_name
from eventflow.log.recovery import recover

SEGMENT_BYTES_MAX = 64 << 20


class LogWriter:
    """The log of one writer of one run, to append to. Not safe for several threads at once.

    A log that is there already is recovered and gone on with: what its last process left behind the last commit is cut.

    Args:
        folder: `<store>/<run>/log`; the writer's own folder is made in it.
        run: the run.
        writer: the writer's name.
        disk: the operating system, or a test's idea of it.
        segment_bytes_max: a new segment begins after the batch that passes this size.

    Attributes:
        torn: what was cut on opening: its bytes, and how many events they held that were never acknowledged.

    Raises:
        LogBusy: another process has this log open.
        LogDamaged: the log is damaged, and so is not written; it can be read up to the damage.
        LogWriteFailed: it could not be made or recovered.
    """

    def __init__(
        self, folder: Path, run: str, writer: str, disk: Disk | None = None, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> None:
        self.run, self.writer = run, writer
        self.folder = folder / writer
        self.torn = Tail()
        self._disk = disk or Disk()
        self._segment_bytes_max = segment_bytes_max
        self._number = 0
        self._place = self._opened_at = first_place(run, writer)
        self._descriptor: int | None = None
        self._lock: int | None = None
        self._size = 0
        self._failed: StoreError | None = None
        self._is_midway = False
        abandon_in_children(self)
        try:
            with self._fail_stop():
                self._make_folder(folder)
                self._take_lock()
                self._open()
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self.folder / segment_name(self._number)

    @property
    def seq(self) -> int:
        """The `seq` of the last event that is on disk, -1 if there is none."""
        return self._place.seq

    def append(self, lines: bytes | bytearray, count: int) -> None:
        """Make a batch of `count` event lines durable: one write, one fdatasync. A bytearray is used up.

        Raises:
            LogWriteFailed: the batch does not count; what was there before does. Every later call raises the same
                error.
            LogClosed: this is a forked child of the process that opened the log.
        """
        if self._failed or self._is_midway:
            raise self._failed or self._stop_for_good("interrupted twice")
        place = Place(advance(self._place.chain, lines), self._place.seq + count)
        with self._fail_stop():
            lines += encode_commit(count, place.seq, place.chain)
            self._write(lines)
            self._place = place
        if self._size >= self._segment_bytes_max:
            with contextlib.suppress(LogWriteFailed), self._fail_stop():  # this batch is on disk; the next one fails
                self._rotate()

    def close(self) -> None:
        """Write that the log ends here, and release it. Idempotent. What was appended is on disk already.

        The last line is the commit of an empty batch: it tells damage of the batch before it from a torn one.
        """
        is_whole = not self._failed and not self._is_midway
        if self._descriptor is not None and is_whole and self._place != self._opened_at:
            place = Place(advance(self._place.chain, b""), self._place.seq)
            with contextlib.suppress(LogWriteFailed), self._fail_stop():
                self._write(encode_commit(0, place.seq, place.chain))
        self._release()

    def abandon_in_child(self) -> None:
        """In a forked child: let go of what was inherited, so that the lock ends with the parent; append no more."""
        self._failed = LogClosed("this process was forked from the one that opened it")
        descriptors, self._descriptor, self._lock = (self._descriptor, self._lock), None, None
        for descriptor in descriptors:
            if descriptor is not None:
                os.close(descriptor)

    def _make_folder(self, log: Path) -> None:
        if log.is_symlink():
            raise NotADirectoryError(None, "its folder is a symbolic link")
        with contextlib.suppress(FileExistsError):
            self._disk.create_folder(self.folder)
        if self.folder.is_symlink():
            raise NotADirectoryError(None, "its folder is a symbolic link")
        self._disk.sync_folder(log)

    def _take_lock(self) -> None:
        try:
            self._lock = self._disk.lock(self.folder / LOCK_NAME)
        except BlockingIOError as problem:
            raise LogBusy(str(self.folder)) from problem

    def _open(self) -> None:
        found = recover(self.folder, self._disk)
        self._place = self._opened_at = found.place
        self._number, self._size, self.torn = found.number, found.size, found.tail
        if found.size:
            self._descriptor = self._disk.open(self.path)
        else:
            self._begin_segment()

    def _begin_segment(self) -> None:
        # A crash may have left the file, with less than its first line, which recovery has cut.
        self._descriptor = self._disk.open(self.path) if self.path.is_file() else self._disk.create(self.path)
        self._size = 0
        self._write(encode_commit(0, self._place.seq, self._place.chain))
        self._disk.sync_folder(self.folder)

    def _rotate(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)
        self._number += 1
        self._begin_segment()

    def _write(self, data: bytes | bytearray) -> None:
        if self._descriptor is None:
            raise OSError(None, "the segment is closed")
        self._disk.write_all(self._descriptor, data)
        self._disk.sync(self._descriptor)
        self._size += len(data)

    def _release(self) -> None:
        descriptors, self._descriptor, self._lock = (self._descriptor, self._lock), None, None
        for descriptor in descriptors:
            if descriptor is not None:
                with contextlib.suppress(OSError):  # everything that counts was synced before
                    self._disk.close(descriptor)

    def _fail_stop(self) -> "_FailStop":
        return _FailStop(self)

    def _stop_for_good(self, problem: str) -> LogWriteFailed:
        """After a failed write or fsync nobody knows what the kernel kept, and after an interrupted one nor does this.

        Cut to the last commit if that can be done, write no more.
        """
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._disk.truncate(self._descriptor, self._size)
        self._release()
        self._failed = failed = LogWriteFailed(str(self.path), problem)
        return failed


class _FailStop:
    """Any exception out of a write is the writer's end; an OSError is told as the log's own error.

    Also if another one comes before that is done: until the end the writer is midway, and then nothing is appended.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        self._writer._is_midway = True  # noqa: SLF001  (one class in two)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._writer._stop_for_good(error.strerror or str(error)) from error  # noqa: SLF001  (one class in two)
        if error is not None and not isinstance(error, EventflowError):
            self._writer._stop_for_good(f"interrupted by {type(error).__name__}")  # noqa: SLF001
        self._writer._is_midway = False  # noqa: SLF001
