"""Storing: what is whole gets its final name, and the result when it is on the disk.

Between the stages, which have bytes, and the output folder. The forces: a crash at any moment must leave a whole file
or none, and an fsync takes as long as the whole download of a small file. Hence one background thread that takes
everything that waits: fsync of each file, rename, one fsync of each folder, so that requests that go on at the same
time share the cost.

Invariants:
    under a final name there is never a part of a file;
    when a future of `FileStore.submit` has its result, the file and its name survive a power cut;
    a failed part fails its own future, leaves no temporary file, and harms no other.
"""

import errno
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from eventflow.folder import Folder
from eventflow.folder_disk import FolderDisk
from eventflow.part import Part
from eventflow.sources import Sources, SystemSources

__all__ = ["FileStore", "Folder", "FolderDisk", "Part"]

BATCH_PARTS_MAX = 64
WAITING_PARTS_MAX = 256
_IDLE_SECONDS = 0.5


class _Submission:
    """A part on its way to the disk, and who waits for it."""

    __slots__ = ("_begun_ns", "_clock_ns", "future", "part")

    def __init__(self, part: Part, clock_ns: Callable[[], int]) -> None:
        self.part, self._clock_ns = part, clock_ns
        self._begun_ns = clock_ns()
        self.future: Future[float] = Future()

    def succeed(self) -> None:
        self.part.release()
        self.future.set_result((self._clock_ns() - self._begun_ns) / 1e9)

    def fail(self, problem: Exception) -> None:
        self.part.release()
        self.future.set_exception(problem)


class FileStore:
    """Makes files durable in a background thread that lives while there is work, so that fsyncs are shared.

    Safe to use from threads and trio tasks alike. A child process that was forked begins with an empty store.

    Args:
        sources: where the clock comes from.
    """

    # One thread and not several: measured with 16 and 64 submitters, 2, 4 and 8 threads were no faster, while their
    # smaller batches cost up to 40 % more disk flushes for each file.
    def __init__(self, *, sources: Sources | None = None) -> None:
        self._clock_ns = (sources or SystemSources()).monotonic_ns
        self._begin()

    def submit(self, part: Part) -> Future[float]:
        """Make a part durable under its final name; the result is the seconds that it took.

        Blocks only while 256 parts wait. Cancelling the future before its turn discards the part. Its callbacks run in
        the background thread and must be quick.

        Raises:
            OSError: a write of the part failed, it was discarded or submitted before, or the store is closed. The
                future raises OSError if the file could not be stored: then nothing is under its name, or what was there
                before, or, if only the folder's fsync failed, the whole file.
        """
        if self._process != os.getpid():
            self._begin()
        part.submitted()
        try:
            return self._enqueue(_Submission(part, self._clock_ns)).future
        except OSError:
            part.discard()
            raise

    def close(self) -> None:
        """Store what waits, then end. Idempotent. `submit` fails from now on."""
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[_Submission] = deque()
        self._thread: threading.Thread | None = None
        self._closing = False

    def _enqueue(self, submission: _Submission) -> _Submission:
        with self._lock:
            self._changed.wait_for(lambda: self._closing or len(self._waiting) < WAITING_PARTS_MAX)
            if self._closing:
                raise OSError(errno.ESHUTDOWN, "the file store is closed")
            self._waiting.append(submission)
            if self._thread is None:
                # Not a daemon, which would be stopped in the middle of a rename; it ends by itself when there is
                # nothing to do, so that a store that nobody closed does not keep the process alive.
                thread = threading.Thread(target=self._store_batches, name="eventflow-store", daemon=False)
                thread.start()
                self._thread = thread
            self._changed.notify_all()
        return submission

    def _store_batches(self) -> None:
        while batch := self._next_batch():
            try:
                _store(batch)
            except Exception as problem:  # noqa: BLE001  (a bug here must fail the requests, never hang them)
                for submission in batch:
                    if not submission.future.done():
                        submission.fail(problem)

    def _next_batch(self) -> list[_Submission]:
        """Everything that waits, up to 64 parts. Empty when the thread is to end."""
        with self._lock:
            self._changed.wait_for(lambda: self._waiting or self._closing, _IDLE_SECONDS)
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_PARTS_MAX))]
            if not batch:
                self._thread = None
            self._changed.notify_all()
            return batch


def _store(batch: list[_Submission]) -> None:
    """Make a batch durable: the bytes of every file, then every name, then once each folder."""
    batch = [submission for submission in batch if _is_wanted(submission)]
    for step in (Part.claim, Part.sync, Part.rename):
        batch = [submission for submission in batch if _does(step, submission)]
    folders: dict[tuple[int, tuple[str, ...]], list[_Submission]] = {}
    for submission in batch:
        folders.setdefault((id(submission.part.folder), submission.part.parents), []).append(submission)
    for submissions in folders.values():
        _store_names(submissions)


def _is_wanted(submission: _Submission) -> bool:
    if submission.future.set_running_or_notify_cancel():
        return True
    submission.part.release()
    return False


def _does(step: Callable[[Part], None], submission: _Submission) -> bool:
    try:
        step(submission.part)
    except OSError as problem:
        submission.fail(problem)
        return False
    return True


def _store_names(submissions: list[_Submission]) -> None:
    """Make the names of files of one folder durable."""
    try:
        submissions[0].part.make_name_durable()
    except OSError as problem:
        for submission in submissions:
            submission.fail(OSError(problem.errno, problem.strerror))  # one each: a traceback belongs to one raise
        return
    for submission in submissions:
        submission.succeed()
