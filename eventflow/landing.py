"""Landing: many small files, each whole in memory when it comes, made durable together.

For the director, which has thousands of them a second, where an fsync and two changes of a folder for each would cost
more than to fetch it. A file is written without a name (O_TMPFILE), a batch of them is made durable by one `syncfs`,
then each gets its name, then each folder is synced once: so one change of a folder and a small share of two syncs each.

Invariants:
    under a final name there is never a part of a file, whenever the power goes: a file has no name before its bytes are
    durable, and if the process is killed nothing of it is left, not even a temporary file;
    when `done` is called without a problem, the file and its name survive a power cut;
    a file that cannot be stored fails alone; a sync that fails fails its whole batch, and is never tried again.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eventflow.folder import Folder
from eventflow.sources import SystemSources

WAITING_MAX = 512
_BATCH_MAX = 256
_IDLE_SECONDS = 0.5
_COMPANY_SECONDS = 0.005

Done = Callable[[OSError | None, float], None]
Report = Callable[[Sequence[tuple[Done, OSError | None, float]]], None]


@dataclass(slots=True)
class _Landed:
    """A file that has its bytes and no name yet."""

    descriptor: int
    name: str
    done: Done
    begun_ns: int


class Landing:
    """Makes small files durable, in a thread of its own. `land` is called by one thread.

    Args:
        folder: where they go.
        tag: what `Folder.sweep` knows temporary files by: the run.
        report: called in that thread with what became of a batch; it hands it over to whoever calls each `done`.
    """

    def __init__(self, folder: Folder, tag: str, report: Report) -> None:
        self._folder, self._tag, self._report = folder, tag, report
        self._clock = SystemSources.monotonic_ns
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: list[_Landed] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self.works = _can_sync_file_system() and folder.takes_unnamed()

    @property
    def is_full(self) -> bool:
        """Whether it is time to let it catch up."""
        return len(self._waiting) >= WAITING_MAX

    def land(self, name: str, body: bytes, done: Done) -> None:
        """Write a file; `done` hears of a problem, or None, and the seconds that it took, once it is durable.

        Raises:
            OSError: it could not be written. Nothing is left of it.
        """
        begun = self._clock()
        descriptor = self._folder.write_unnamed(body)
        with self._lock:
            self._waiting.append(_Landed(descriptor, name, done, begun))
            if self._thread is None:
                self._thread = threading.Thread(target=self._land_batches, name="eventflow-landing", daemon=False)
                self._thread.start()
            if len(self._waiting) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Land what waits, and end the thread. Idempotent."""
        with self._lock:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _land_batches(self) -> None:
        while batch := self._next_batch():
            self._report(self._land(batch))

    def _next_batch(self) -> list[_Landed]:
        """What waits, after a moment for company: to be woken for each file costs more than the file."""
        with self._lock:
            self._changed.wait_for(lambda: self._waiting or self._closing, _IDLE_SECONDS)
            if not self._closing and len(self._waiting) < _BATCH_MAX:
                self._changed.wait_for(lambda: self._closing, _COMPANY_SECONDS)
            batch, self._waiting = self._waiting[:_BATCH_MAX], self._waiting[_BATCH_MAX:]
            if not batch:
                self._thread = None
            return batch

    def _land(self, batch: list[_Landed]) -> list[tuple[Done, OSError | None, float]]:
        problems: dict[int, OSError] = {}
        try:
            self._folder.sync_file_system()
        except OSError as problem:
            problems = dict.fromkeys((id(file) for file in batch), problem)
        folders: dict[tuple[str, ...], list[_Landed]] = {}
        for file in batch:
            if id(file) not in problems:
                parents = tuple(file.name.split("/")[:-1])
                try:
                    self._folder.name_unnamed(file.descriptor, file.name, self._tag)
                    folders.setdefault(parents, []).append(file)
                except OSError as problem:
                    problems[id(file)] = problem
            with contextlib.suppress(OSError):
                os.close(file.descriptor)
        for parents, files in folders.items():
            try:
                self._folder.sync_names(parents)
            except OSError as problem:
                problems |= dict.fromkeys((id(file) for file in files), problem)
        now = self._clock()
        return [(file.done, problems.get(id(file)), (now - file.begun_ns) / 1e9) for file in batch]


def _can_sync_file_system() -> bool:
    """Since Linux 5.8 `syncfs` says so if something could not be written."""
    system, release = os.uname().sysname, os.uname().release
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return system == "Linux" and (int(major), int(minor) if minor.isdecimal() else 0) >= (5, 8)
