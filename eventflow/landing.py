"""Landing: many small files, each whole in memory when it comes, made durable together.

For the director, which has thousands of them a second, where an fsync and two changes of a folder for each would cost
more than to fetch it. A file is written without a name (O_TMPFILE), a batch of them is made durable by one `syncfs`,
then each gets its name, then each folder is synced once: so one change of a folder and a small share of two syncs each.

Invariants:
    under a final name there is never a part of a file, whenever the power goes: a file has no name before its bytes are
    durable, and if the process is killed nothing of it is left, not even a temporary file;
    when `done` is called without a problem, the file and its name survive a power cut;
    a file that cannot be stored fails alone; a sync that fails fails its whole batch, and all that was written until it
    failed, since the system tells of lost bytes only once; it is never tried again.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from eventflow.folder import Folder
from eventflow.sources import SystemSources

WAITING_MAX = 512
_BATCH_MAX = 256
_IDLE_SECONDS = 0.5
_COMPANY_SECONDS = 0.005

Done = Callable[[OSError | None, float], None]
CallSoon = Callable[[Callable[[], None]], None]


@dataclass(slots=True)
class _File:
    """A file that has its bytes, and perhaps its name."""

    descriptor: int
    name: str
    done: Done
    begun_ns: int
    problem: OSError | None = None


class Landing:
    """Makes small files durable.

    Its thread does what waits for the disk, and nothing else: a thread that works on each file would take the
    interpreter from the loop each time, which costs more than the work.

    `land` and every `done` are called in the loop's thread.

    Args:
        folder: where they go.
        tag: what `Folder.sweep` knows temporary files by: the run.
        call_soon: has a function called in the loop's thread; may be called from any.
    """

    def __init__(self, folder: Folder, tag: str, call_soon: CallSoon) -> None:
        self._folder, self._tag, self._call_soon = folder, tag, call_soon
        self._clock = SystemSources.monotonic_ns
        self._changed = threading.Condition()
        self._written: list[_File] = []
        self._named: list[list[_File]] = []
        self._naming = 0  # batches that the loop's thread is to name
        self._lost: OSError | None = None  # the last sync that failed
        self._closing = False
        self._thread: threading.Thread | None = None
        self.works = _can_sync_file_system() and folder.takes_unnamed()

    @property
    def is_full(self) -> bool:
        """Whether it is time to let it catch up."""
        return len(self._written) >= WAITING_MAX

    def land(self, name: str, body: bytes, done: Done) -> None:
        """Write a file; `done` hears of a problem, or None, and the seconds that it took, once it is durable.

        Raises:
            OSError: it could not be written. Nothing is left of it.
        """
        begun, lost_before = self._clock(), self._lost
        descriptor = self._folder.write_unnamed(body)
        with self._changed:
            problem = self._lost if self._lost is not lost_before else None
            self._written.append(_File(descriptor, name, done, begun, problem))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="eventflow-landing", daemon=False)
                self._thread.start()
            if len(self._written) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Land what waits, and end the thread; the loop goes on meanwhile. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while self._wait():
            with self._changed:
                written, self._written = self._written[:_BATCH_MAX], self._written[_BATCH_MAX:]
                named, self._named = self._named, []
                self._naming += bool(written)
            for batch in named:
                self._sync_names(batch)
            if written:
                self._sync_bytes(written)

    def _wait(self) -> bool:
        """Until there is something to do, and a moment for company. False when there will be nothing more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._written or self._named or (self._closing and not self._naming), _IDLE_SECONDS
            )
            if not self._closing and len(self._written) < _BATCH_MAX:
                self._changed.wait_for(lambda: self._closing, _COMPANY_SECONDS)
            if self._written or self._named or self._naming:
                return True
            self._thread = None
            return False

    def _sync_bytes(self, batch: list[_File]) -> None:
        try:
            self._folder.sync_file_system()
        except OSError as problem:
            with self._changed:
                self._lost = problem
                for file in (*batch, *self._written):
                    file.problem = problem
        self._call_soon(lambda: self._name(batch))

    def _name(self, batch: list[_File]) -> None:
        """In the loop's thread."""
        for file in batch:
            if file.problem is None:
                try:
                    self._folder.name_unnamed(file.descriptor, file.name, self._tag)
                except OSError as problem:
                    file.problem = problem
            with contextlib.suppress(OSError):
                os.close(file.descriptor)
        with self._changed:
            self._naming -= 1
            self._named.append(batch)
            self._changed.notify()

    def _sync_names(self, batch: list[_File]) -> None:
        folders: dict[tuple[str, ...], list[_File]] = {}
        for file in batch:
            if file.problem is None:
                folders.setdefault(tuple(file.name.split("/")[:-1]), []).append(file)
        for parents, files in folders.items():
            try:
                self._folder.sync_names(parents)
            except OSError as problem:
                for file in files:
                    file.problem = problem
        now = self._clock()
        self._call_soon(lambda: _tell(batch, now))


def _tell(batch: list[_File], now_ns: int) -> None:
    for file in batch:
        file.done(file.problem, (now_ns - file.begun_ns) / 1e9)


def _can_sync_file_system() -> bool:
    """Since Linux 5.8 `syncfs` says so if something could not be written."""
    system, release = os.uname().sysname, os.uname().release
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return system == "Linux" and (int(major), int(minor) if minor.isdecimal() else 0) >= (5, 8)
