"""Appending ready events with an expectation: optimistic concurrency, and appends that may be sent again.

The recorder is for telling what happens. This is for deciding: read a stream, decide what happens next, and append it
on the condition that nobody else was faster.

Invariants:
    an append happens wholly or not at all; of those that expect the same version of a stream one at most happens, also
    between processes;
    sending an append again after an unknown outcome changes nothing if it had happened.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from eventflow.disk import Disk, abandon_in_children
from eventflow.errors import LogWriteFailed, PartlyAppended, UsageError, WrongVersion
from eventflow.event import Event, Payload
from eventflow.log.following import make_durable
from eventflow.log.format import LINE_BREAK, LINE_BYTES_MAX, encode_events, require_room
from eventflow.log.reader import RunTail, read_events
from eventflow.log.segment import SEGMENT_BYTES_MAX, LogWriter

_TURN_TRIES = 100


class Appended(NamedTuple):
    """Where events went: the `seq` of the first and of the last in the log of `writer`."""

    writer: str
    first_seq: int
    last_seq: int


class _Version(msgspec.Struct, gc=False):
    stream: str
    writer: str
    version: int


_versions = msgspec.json.Decoder(_Version)


class Appender:
    """A writer's log, to append ready events to. A context manager. Not safe for several threads at once.

    Args:
        log: `<store>/<run>/log`.
        writer: the writer's name; a log of that name is gone on with.
        disk: the operating system, or a test's idea of it.
        segment_bytes_max: a new segment begins after the batch that passes this size.

    Raises:
        LogBusy: another process has this writer's log open.
        LogDamaged: it is damaged, and so is not written.
        LogWriteFailed: it could not be made or recovered.
    """

    def __init__(
        self, log: Path, writer: str, *, disk: Disk | None = None, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> None:
        self._log = log
        self._disk = disk or Disk()
        self._writer = LogWriter(log, log.parent.name, writer, self._disk, segment_bytes_max)
        self._tail = RunTail(log)
        self._latest: dict[str, int] = {}
        self._turn: int | None = None
        abandon_in_children(self)
        self.torn = self._writer.torn

    def append(self, events: Sequence[Event[Payload]], expected_version: int | None = None) -> Appended:
        """Make events durable, all or none, and say where they are.

        Their `run`, `writer` and `seq` become those of their place in the log, whatever they were.

        Args:
            events: at least one.
            expected_version: the version of the last event of the one stream that they are all of, -1 if it has none;
                theirs are to go on from there. Other writers of the run are looked at, too. None: nothing is checked,
                and an append that is sent again is appended again.

        Raises:
            WrongVersion: the stream is at another version; nothing was appended.
            PartlyAppended: some of the events are there and others are not, so this is not the same append.
            EventTooLarge: one is longer than the log takes; nothing was appended.
            TypeError: one holds something that JSON cannot; nothing was appended.
            LogWriteFailed: it is unknown whether they were appended. Open the log anew and append the same again.
        """
        if not events:
            raise UsageError("there is nothing to append", "give at least one event")
        if expected_version is None:
            return self._append(events)
        stream = _require_one_story(events, expected_version)
        try:
            self._take_turn()
            return self._append_to(stream, events, expected_version)
        except OSError as problem:
            raise LogWriteFailed(str(self._log), problem.strerror or str(problem)) from problem
        finally:
            self._give_turn()

    def close(self) -> None:
        """Release the log. Idempotent."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self._disk.unlock(turn)
        self._writer.close()

    def abandon_in_child(self) -> None:
        """In a forked child: let go of what was inherited, so that the parent's turn ends with its append."""
        turn, self._turn = self._turn, None
        if turn is not None:
            os.close(turn)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, events: Sequence[Event[Payload]]) -> Appended:
        first = self._writer.seq + 1
        placed = _placed(events, self._writer.run, self._writer.writer, first)
        lines = encode_events(placed)
        if lines.count(b"\n") != len(placed):
            raise TypeError(LINE_BREAK)
        if len(lines) > LINE_BYTES_MAX:
            _require_lines_that_fit(placed, lines)
        self._writer.append(lines, len(placed))
        return Appended(self._writer.writer, first, self._writer.seq)

    def _append_to(self, stream: str, events: Sequence[Event[Payload]], expected_version: int) -> Appended:
        self._catch_up()
        actual = self._latest.get(stream, -1)
        if actual != expected_version:
            return self._find_appended(events, expected_version, actual)
        appended = self._append(events)
        self._latest[stream] = events[-1].version
        return appended

    def _take_turn(self) -> None:
        """The lock of all appends with an expectation in this run: between looking and appending nobody else does.

        The descriptor is kept before it has the lock, so that whatever interrupts this leaves no lock without a name.
        """
        try:
            if self._turn is None:
                self._turn = self._disk.open_lock(self._log.parent / "append.lock")
            for _ in range(_TURN_TRIES):
                with contextlib.suppress(BlockingIOError):
                    return self._disk.take_lock(self._turn)
        except OSError as problem:
            raise LogWriteFailed(str(self._log), problem.strerror or str(problem)) from problem
        raise LogWriteFailed(str(self._log), f"other appends have held the lock for {_TURN_TRIES / 10:.0f} s")

    def _give_turn(self) -> None:
        if self._turn is None:
            return
        try:
            self._disk.release_lock(self._turn)
        except OSError:  # it ends with its descriptor, too; the append is on disk, whatever a lock says
            turn, self._turn = self._turn, None
            self._disk.unlock(turn)

    def _catch_up(self) -> None:
        """Learn the versions of the streams: of the whole log at first, then of what came since."""
        tail, self._tail = self._tail, RunTail(self._log)  # to begin anew if this is interrupted midway
        has_others = False
        for lines in tail.poll():
            for event in _versions.decode_lines(b"\n".join(lines)):
                has_others = has_others or event.writer != self._writer.writer
                if event.version > self._latest.get(event.stream, -1):
                    self._latest[event.stream] = event.version
        if has_others:  # what is appended now must not be on disk before what it goes on from
            make_durable(self._log, self._disk)
        self._tail = tail

    def _find_appended(self, events: Sequence[Event[Payload]], expected: int, actual: int) -> Appended:
        """The stream has moved on: perhaps by this very append, whose answer was lost."""
        stream, ids = events[0].stream, {event.id for event in events}
        there = [event for event in read_events(self._log, streams=[stream]) if event.id in ids]
        if not there:
            raise WrongVersion(stream, expected, actual)
        if len(there) != len(events):
            raise PartlyAppended(stream, len(there), len(events))
        return Appended(there[0].writer, min(event.seq for event in there), max(event.seq for event in there))


def _placed(events: Sequence[Event[Payload]], run: str, writer: str, first_seq: int) -> Sequence[Event[Payload]]:
    """The events as they stand in the log; the same objects where they say so already."""
    for seq, event in enumerate(events, first_seq):
        if event.seq != seq or event.writer != writer or event.run != run:
            break
    else:
        return events
    return [
        msgspec.structs.replace(event, run=run, writer=writer, seq=seq) for seq, event in enumerate(events, first_seq)
    ]


def _require_one_story(events: Sequence[Event[Payload]], expected_version: int) -> str:
    stream = events[0].stream
    for version, event in enumerate(events, expected_version + 1):
        if event.stream != stream or event.version != version:
            raise UsageError(
                f"event {event.version} of {event.stream!r} stands where {version} of {stream!r} is expected",
                "give events of one stream whose versions go on from the expected one",
            )
    return stream


def _require_lines_that_fit(events: Sequence[Event[Payload]], lines: bytes) -> None:
    for event, line in zip(events, lines.split(b"\n"), strict=False):
        require_room(event, line)
