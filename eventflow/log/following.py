"""Following a run while it goes on, and subscriptions: readers whose place outlives them.

Nothing tells a reader in another process, or on another machine with a shared volume, that a file has grown. So it
looks, fifty times a second, with two `stat` calls for each writer, and reads only where there is something new. It
looks five times a second whether anybody still writes.

Invariants:
    every event is given at least once to a subscription of a name, however often it is killed and begun again; through
    the event's `id` its reader can make that exactly once;
    a checkpoint is whole, never goes backwards, and never says more than is on disk.
"""

import contextlib
import itertools
import os
import re
import time
from collections.abc import Collection, Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from eventflow.disk import Disk, abandon_in_children
from eventflow.errors import (
    LogBusy,
    LogClosed,
    LogDamaged,
    LogWriteFailed,
    NewerFormat,
    StoreError,
    UsageError,
    name_of,
)
from eventflow.event import StoredEvent
from eventflow.log.format import FORMAT
from eventflow.log.layout import is_locked, segment_paths, writer_folders
from eventflow.log.reader import EventFilter, Position, WriterTail, batch_events

PERIOD_SECONDS = 0.02
_LOOKS_PER_LOCK = 10
_MERGED_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class EventTail:
    """The events of a run as they become durable, from one place on.

    Those of each writer come in its order; between writers, what is new at one look comes in the order of time.

    Args:
        log: `<store>/<run>/log`.
        after: where to begin; from the start if None.
        streams: only those of these streams; all if empty.
        types: only those of these types; all if empty. A name that ends with a dot stands for all that begin with it.
    """

    def __init__(
        self, log: Path, *, after: Position | None = None, streams: Collection[str] = (), types: Collection[str] = ()
    ) -> None:
        self.log = log
        self.position = dict(after or {})
        self._filter = EventFilter(streams, types)
        self._tails: dict[Path, WriterTail] = {}
        self._is_midway = False
        self._damage: LogDamaged | None = None

    def poll(self) -> Iterator[StoredEvent]:
        """The events since the last one that was given. `position` moves on with each.

        Raises:
            LogDamaged: the log is not what was written; what stands before, and what other writers wrote, was given.
        """
        if self._is_midway:  # the last call's events were not taken to their end
            self._tails.clear()
        self._is_midway = True
        self._damage = None
        news = [self._told(tail) for tail in self._writers() if tail.may_have_news()]
        if 1 < len(news) <= _MERGED_MAX:
            news = [merge(*news, key=itemgetter(0))]
        for told in news:  # of too many writers, one after the other: each has a file open
            for _, writer, seq, event in told:
                self.position[writer] = seq
                if event is not None:
                    yield event
        if self._damage is not None:
            raise self._damage
        self._is_midway = False

    def _told(self, tail: WriterTail) -> Iterator[tuple[int, str, int, StoredEvent | None]]:
        """The events of a writer, each with its time and how far that is; and without one, how far a batch was read."""
        writer, before, time_ns = tail.folder.name, tail.seq, 0
        try:
            for batch in tail.poll():
                for event in batch_events(batch, before, self._filter, tail.path):
                    time_ns = event.time
                    yield time_ns, writer, event.seq, event
                before = batch.place.seq
                yield time_ns, writer, before, None
        except LogDamaged as found:
            self._damage = self._damage or found

    def _writers(self) -> list[WriterTail]:
        if self.log.is_dir() and sum(1 for _ in os.scandir(self.log)) == len(self._tails):
            return list(self._tails.values())
        for folder in writer_folders(self.log):
            if folder not in self._tails:
                self._tails[folder] = WriterTail(folder, self.position.get(folder.name, -1))
        return list(self._tails.values())


def follow(
    log: Path,
    *,
    after: Position | None = None,
    streams: Collection[str] = (),
    types: Collection[str] = (),
    period_seconds: float = PERIOD_SECONDS,
) -> Iterator[StoredEvent]:
    """The events of a run as they become durable, until nobody writes to it any more.

    Args:
        log: as `EventTail`; so are `after`, `streams` and `types`.
        after: see there.
        streams: see there.
        types: see there.
        period_seconds: how long it sleeps when there is nothing new, and so how late it can be.

    Raises:
        LogDamaged: the log is not what was written; what stands before was given.
    """
    yield from _follow(EventTail(log, after=after, streams=streams, types=types), period_seconds)


def _follow(tail: EventTail, period_seconds: float) -> Iterator[StoredEvent]:
    for look in itertools.count():
        may_be_live = look % _LOOKS_PER_LOCK or any(is_locked(folder) for folder in writer_folders(tail.log))
        yield from tail.poll()
        if not may_be_live:
            return
        time.sleep(period_seconds)


def make_durable(log: Path, disk: Disk) -> None:
    """Sync what can be read now: a commit line can be read some milliseconds before its fsync is done.

    Raises:
        OSError: it cannot be made durable.
    """
    for path in segment_paths(log):
        with contextlib.suppress(FileNotFoundError):  # it was sealed meanwhile, and so is durable in the other form
            if path.suffix == ".ndjson":
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    disk.sync(descriptor)
                finally:
                    os.close(descriptor)


class _Checkpoint(msgspec.Struct, frozen=True):
    """What is kept of a subscription."""

    format: int
    name: str
    position: dict[str, int]


class Subscription:
    """A named reader of one run, to be gone on with by its name, also after it was killed. A context manager.

    Its place is kept in `<run>/projections/<name>.json` when `save` is called and at the end of the `with` block. If
    that ends with an exception, the event that was given last counts as not done, and comes again.

    Args:
        run: `<store>/<run>`.
        name: letters, digits, dots, dashes and underscores, at most 100.
        streams: see `EventTail`.
        types: see `EventTail`.
        disk: the operating system, or a test's idea of it.

    Raises:
        UsageError: the name cannot be one.
        LogBusy: another process goes by this name.
        StoreError: the checkpoint cannot be read or written.
    """

    def __init__(
        self,
        run: Path,
        name: str,
        *,
        streams: Collection[str] = (),
        types: Collection[str] = (),
        disk: Disk | None = None,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name_of(name)} cannot name a subscription", "use letters, digits, dots, dashes")
        self.name = name
        self._disk = disk or Disk()
        self._folder = run / "projections"
        self._path = self._folder / f"{name}.json"
        self._lock: int | None = self._take_lock(run)
        abandon_in_children(self)
        try:
            self._saved = self._load()
        except BaseException:
            self.close()
            raise
        self._done = dict(self._saved)
        self._tail = EventTail(run / "log", after=self._saved, streams=streams, types=types)

    def poll(self) -> Iterator[StoredEvent]:
        """The events that came since. See `EventTail.poll`."""
        yield from self._count(self._tail.poll())

    def follow(self, period_seconds: float = PERIOD_SECONDS) -> Iterator[StoredEvent]:
        """The events as they become durable, until nobody writes to the run any more. See `follow`."""
        yield from self._count(_follow(self._tail, period_seconds))

    @property
    def saved(self) -> dict[str, int]:
        """How far it was, by what is kept of it: for each writer the `seq` of the last event that is done."""
        return dict(self._saved)

    def save(self, position: Position | None = None) -> None:
        """Everything that was given so far is done, and does not come again. Two fsyncs, and one for each writer.

        `position` is how far it is done, for a reader that is done with events later than it is given them, or that
        reads the log by itself.

        Raises:
            LogWriteFailed: it could not be made durable; the place that was saved before counts.
            LogClosed: the name is not this subscription's any more: it was closed, or this is a forked child.
        """
        self._done = dict(self._tail.position if position is None else position)
        self._write()

    def abandon_in_child(self) -> None:
        """In a forked child: let go of the name, so that it ends with the parent. Nothing can be saved here."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the name. Saves nothing. Idempotent."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            self._disk.unlock(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._done = dict(self._tail.position)
            self._write()
        finally:
            self.close()

    def _count(self, events: Iterator[StoredEvent]) -> Iterator[StoredEvent]:
        for event in events:
            yield event
            self._done[event.writer] = event.seq  # whoever asks for the next one is done with this one

    def _write(self) -> None:
        furthest = self._saved | {
            writer: max(seq, self._saved.get(writer, -1)) for writer, seq in self._done.items() if seq >= 0
        }
        if furthest == self._saved:
            return
        if self._lock is None:
            raise LogClosed("the subscription was closed, or opened by the process that this one was forked from")
        try:
            make_durable(self._tail.log, self._disk)  # no checkpoint may be ahead of the log
            data = msgspec.json.encode(_Checkpoint(FORMAT, self.name, furthest), order="sorted")
            self._disk.replace_file(self._path, data + b"\n")
        except OSError as problem:
            raise LogWriteFailed(str(self._path), problem.strerror or str(problem)) from problem
        self._saved = furthest

    def _take_lock(self, run: Path) -> int:
        try:
            if self._folder.is_symlink() or self._path.is_symlink():
                raise NotADirectoryError(None, "it is a symbolic link")
            if not self._folder.is_dir():
                self._disk.create_folder(self._folder)
            self._disk.sync_folder(run)  # whoever made it may have been killed before it was durable
            return self._disk.lock(self._folder / f"{self.name}.lock")
        except BlockingIOError as problem:
            raise LogBusy(str(self._path)) from problem
        except OSError as problem:
            raise LogWriteFailed(str(self._path), problem.strerror or str(problem)) from problem

    def _load(self) -> dict[str, int]:
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=_Checkpoint)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as problem:
            reason = f"{self._path} cannot be read ({problem}): remove it, and every event comes once more"
            raise StoreError(reason) from problem
        if found.format > FORMAT:
            raise NewerFormat(str(self._path), found.format, FORMAT)
        return found.position


def lower_checkpoints(run: Path, writer: str, seq: int, disk: Disk) -> None:
    """The events of a writer after that `seq` are given up: no subscription of the run has had them any more.

    Raises:
        OSError: a checkpoint could not be written; some may be lower already.
    """
    for path in sorted((run / "projections").glob("*.json")):
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_Checkpoint)
        except (OSError, ValueError):  # something else that is kept there, or what nobody can go on from
            continue
        if found.format == FORMAT and found.position.get(writer, -1) > seq:
            lowered = _Checkpoint(FORMAT, found.name, found.position | {writer: seq})
            disk.replace_file(path, msgspec.json.encode(lowered, order="sorted") + b"\n")
