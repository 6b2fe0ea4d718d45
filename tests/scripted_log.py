"""Logs of which every byte is known beforehand, and what must hold of one after a crash.

The n-th event of a writer follows from the writer's name and n. So a process that is killed need not say what it
wrote: the test knows it, and only has to be told how far it was acknowledged.

The oracles: O1 what was acknowledged is there, byte for byte; O2 the log is a beginning of what was submitted, by whole
batches; O3 places and ids are unique and without gaps; O4 the chain verifies, to a digest that was kept outside; O5 the
log can be opened, appended to, closed and opened again; O6 DuckDB counts what the store counts; O8 recovery can be done
again and again.
"""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import msgspec

from eventflow.disk import Disk
from eventflow.event import Event, Link
from eventflow.log.appending import Appender
from eventflow.log.layout import writer_folders
from eventflow.log.reader import WriterTail, wanted_lines
from eventflow.log.recovery import examine
from eventflow.log.runs import RunFolder
from eventflow.log.sql import connect
from eventflow.log.verify import verify_run
from eventflow.stream import Handoff
from eventflow.vocabulary import RequestFailed

START_NS = 1_795_438_800_000_000_000
_UUID7 = (7 << 76) | (2 << 62)


class Script:
    """What a writer of a run writes, in one story: its n-th event, and whatever the recorder needs to make the same.

    An implementation of `Sources`: a recorder that is given it makes the script's events from number `next` on.
    """

    def __init__(self, run: str, writer: str, first: int = 0) -> None:
        self.run, self.writer, self.next = run, writer, first
        self.stream = f"story-{writer}"
        self._seed = int.from_bytes(hashlib.sha256(writer.encode()).digest()[:6], "big")

    def id_of(self, number: int) -> str:
        """A UUIDv7 that no other event of any writer has."""
        return str(uuid.UUID(int=(self._seed << 80) | _UUID7 | number))

    def payload(self, number: int) -> RequestFailed:
        """Lines from 350 to 1 000 bytes, and now and then a long one; with text that JSON has to escape."""
        size = 9_000 if number % 97 == 96 else number * 37 % 650
        return RequestFailed(error="E", message=f'{number}\n"é😀\\{"x" * size}', seconds=number / 8)

    def event(self, number: int) -> Event[RequestFailed]:
        """The event as it stands in the log."""
        links = (self._link(number - 1),) if number else ()
        return Event(
            self.id_of(number), RequestFailed.TYPE, START_NS + number, self.run, self.stream, number, self.writer,
            number, self.trace_id(), self.span_id(), self.payload(number), None, links,
        )  # fmt: skip

    def line(self, number: int) -> bytes:
        """Its line, without the newline."""
        return msgspec.json.encode(self.event(number))

    def handoff(self, number: int) -> Handoff:
        """The story for a recorder that is to go on with the event of that number."""
        last = self._link(number - 1) if number else None
        return Handoff(self.stream, self.trace_id(), number, last, self.span_id(), None)

    def _link(self, number: int) -> Link:
        return Link(self.id_of(number), self.trace_id(), self.span_id())

    # Sources

    def event_id(self) -> str:
        self.next += 1
        return self.id_of(self.next - 1)

    def time_ns(self) -> int:
        return START_NS + self.next - 1

    def monotonic_ns(self) -> int:
        return self.time_ns()

    def trace_id(self) -> str:
        return f"{self._seed + 1:032x}"

    def span_id(self) -> str:
        return f"{self._seed + 1:016x}"

    def name_suffix(self) -> str:
        return self.writer


class Ledger:
    """What is known of a writer's log outside of it.

    Attributes:
        acknowledged: how many events were acknowledged.
        submitted: how many events may have been submitted.
        ends: where batches may end between these two; those of a recorder may end anywhere.
    """

    def __init__(self, run: RunFolder, writer: str, *, is_recorder: bool = False) -> None:
        self.run, self.writer, self.is_recorder = run, writer, is_recorder
        self.script = Script(run.run, writer)
        self.acknowledged = self.submitted = 0
        self.ends = set[int]()
        self._lines: list[bytes] = []

    def lines(self, count: int) -> list[bytes]:
        """The first `count` lines of the script."""
        self._lines += (self.script.line(number) for number in range(len(self._lines), count))
        return self._lines[:count]

    def check(self) -> int:
        """O1, O2, O3. Returns how many events the log holds, which from now on count as acknowledged."""
        found = lines_of(self.run.log / self.writer)
        count = len(found)
        assert self.acknowledged <= count, f"{self.writer}: acknowledged {self.acknowledged}, and there are {count}"
        assert count <= self.submitted, f"{self.writer}: submitted {self.submitted}, and there are {count}"
        assert found == self.lines(count), f"{self.writer}: the events are not those that were submitted"
        assert self.is_recorder or count in self.ends | {self.acknowledged}, f"{self.writer}: half a batch, {count}"
        self.acknowledged = self.submitted = count  # a reader has seen them: they may not vanish any more
        self.ends = set()
        return count

    def enter(self, told: list[Any]) -> None:
        """Take in what the writer's process told: `["open", events]`, `["try", end]`, `["ack", end]`."""
        self.ends = set()
        for what, number in told:
            if what in ("open", "ack"):
                assert number >= self.acknowledged
                self.acknowledged, self.submitted = number, max(number, self.submitted)
            elif what == "try":
                self.submitted = number
                self.ends.add(number)

    def torn(self, size: int) -> bytes:
        """The first `size` bytes of what a crash may leave behind: the next batches' lines, then a commit line."""
        return b"".join(line + b"\n" for line in self.lines(self.acknowledged + 5)[self.acknowledged :])[:size]


def lines_of(folder: Path) -> list[bytes]:
    """The event lines of a writer's log, by a reader that begins at its start."""
    if not folder.is_dir():
        return []
    return [line for batch in WriterTail(folder).poll() for line in wanted_lines(batch, -1)]


def check_chain(run: RunFolder) -> int:
    """O4: `verify` finds nothing. Returns the number of events that it counts."""
    reports = list(verify_run(run.log, run.run))
    assert [report.damage for report in reports if report.damage] == []
    return sum(report.events for report in reports)


def check_sql(run: RunFolder, events: int) -> None:
    """O6: DuckDB counts what the store counts."""
    connection = connect(run.path.parent, [run.run])
    try:
        rows = connection.execute("SELECT count(*), count(DISTINCT id), count(time) FROM events").fetchall()
    finally:
        connection.close()
    assert rows == [(events, events, events)]


def check_recovery(ledger: Ledger, disk: Disk | None = None) -> None:
    """O5 and O8: opening twice gives the same; after open, append, close the log is whole, and a little longer."""
    folder = ledger.run.log / ledger.writer
    count = ledger.acknowledged
    for _ in range(2):
        with Appender(ledger.run.log, ledger.writer, disk=disk) as appender:
            assert appender._writer.seq == count - 1
        found = examine(folder)
        assert (found.place.seq, found.tail.bytes) == (count - 1, 0)
    with Appender(ledger.run.log, ledger.writer, disk=disk) as appender:
        appender.append([ledger.script.event(count)], count - 1)
    ledger.submitted = ledger.acknowledged = count + 1
    ledger.check()


def check_all(run: RunFolder, ledgers: list[Ledger], *, sql: bool = True) -> int:
    """Every oracle. Returns the number of events in the log."""
    events = sum(ledger.check() for ledger in ledgers)
    assert {folder.name for folder in writer_folders(run.log)} <= {ledger.writer for ledger in ledgers}
    assert check_chain(run) == events
    if sql:
        check_sql(run, events)
    return events
