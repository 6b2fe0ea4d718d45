"""Checking that a log says what was written: the chain of every batch, the order of every event.

The check is a fold over lines, pure; reading the file is a short loop around it.

Invariants:
    bytes after the last whole batch are torn, not damaged: they were never acknowledged;
    any other byte that is not what was written is reported with file, offset and line.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from eventflow.errors import LogDamaged, NewerFormat
from eventflow.log.format import COMMIT_PREFIX, Commit, advance, decode_commit, decode_event, genesis
from eventflow.log.reader import writer_folders, writer_segments


class SegmentReport(msgspec.Struct, frozen=True):
    """What the check of one segment found.

    `torn_bytes` stand after the last whole batch; `damage` is the error's text.
    """

    path: str
    events: int
    batches: int
    bytes: int
    torn_bytes: int = 0
    damage: str | None = None


class _Checker:
    """The fold over the lines of one writer's segments."""

    def __init__(self, run: str, writer: str) -> None:
        self.run, self.writer = run, writer
        self.chain, self.seq = genesis(run, writer), -1
        self.begin(Path())

    def begin(self, path: Path) -> None:
        self.path, self.opened = path, False
        self.offset = self.batch_offset = 0
        self.line = self.batch_line = 1
        self.events = self.batches = 0
        self._batch: list[bytes] = []

    def feed(self, line: bytes) -> None:
        """Take the next whole line, its newline included."""
        if line.startswith(COMMIT_PREFIX):
            self._commit(line)
            self.batch_offset, self.batch_line = self.offset + len(line), self.line + 1
        else:
            self._batch.append(line)
        self.offset += len(line)
        self.line += 1

    def _commit(self, line: bytes) -> None:
        try:
            commit = decode_commit(line, str(self.path))
        except msgspec.MsgspecError as problem:
            raise self._damaged(f"the commit line cannot be read ({problem})") from problem
        lines = b"".join(self._batch)
        chain = advance(self.chain, lines) if self.opened else self.chain
        if commit.chain != chain.hex():
            raise self._damaged(
                "the bytes are not those that were committed"
                if self.opened
                else "the segment does not follow the one before it"
            )
        self._check_events(commit)
        self.chain, self.opened = chain, True
        self.events += len(self._batch)
        self.batches += 1
        self._batch.clear()

    def _check_events(self, commit: Commit) -> None:
        if commit.count != len(self._batch) or commit.seq != self.seq + commit.count:
            raise self._damaged(f"{len(self._batch)} events where the commit line counts {commit.count}")
        for line in self._batch:
            try:
                event = decode_event(line)
            except msgspec.MsgspecError as problem:
                raise self._damaged(f"not an event ({problem})") from problem
            self.seq += 1
            if (event.seq, event.run, event.writer) != (self.seq, self.run, self.writer):
                raise self._damaged(f"event {event.seq} of {event.writer} in the place of {self.seq} of {self.writer}")

    def _damaged(self, problem: str) -> LogDamaged:
        return LogDamaged(str(self.path), self.batch_offset, self.batch_line, problem)


def verify_run(log: Path, run: str, progress: Callable[[int], None] = lambda _bytes: None) -> Iterator[SegmentReport]:
    """Check every segment of a run, one report each. `progress` is told the bytes of each segment when it is done."""
    for folder in writer_folders(log):
        checker = _Checker(run, folder.name)
        for number, path in enumerate(writer_segments(folder)):
            report = _check_segment(checker, path, number)
            progress(report.bytes)
            yield report
            if report.damage:  # what follows hangs from a chain that is broken
                break


def _check_segment(checker: _Checker, path: Path, number: int) -> SegmentReport:
    checker.begin(path)
    size = path.stat().st_size
    damage = None
    try:
        if path.stem != f"{number:08}":
            raise LogDamaged(str(path), 0, 1, f"segment {number:08} is missing")
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    checker.feed(line)
    except (LogDamaged, NewerFormat) as problem:
        damage = str(problem)
    torn = 0 if damage else size - checker.batch_offset
    return SegmentReport(str(path), checker.events, checker.batches, size, torn, damage)
