"""Queries against a process that writes at full speed, by default 100 of them.

EVENTFLOW_QUERIES=1000 pytest tests/unit/test_sql_while_writing.py
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, list_runs
from eventflow.log.sql import connect, query
from tests import busy_writer
from tests.busy_writer import BATCH, EVENTS

QUERIES = int(os.environ.get("EVENTFLOW_QUERIES", "100"))
PER_RUN = 10  # two connections with five queries each
SECONDS_MAX = 30
COLUMNS = ("id", "type", "time", "run", "stream", "version", "writer", "seq", "trace_id", "span_id", "links", "data")
COUNTS = "SELECT count(*), count(DISTINCT id), coalesce(min(seq), 0), coalesce(max(seq), -1) FROM events"
HOLES = f"SELECT count(*) FROM events WHERE {' OR '.join(f'{name} IS NULL' for name in COLUMNS)}"
REQUESTS = "SELECT count(*), count(url), count(DISTINCT number), count(*) FILTER (state = 'queued') FROM requests"


class BusyWriter:
    """A process that writes runs at full speed, one for each time that it is asked."""

    def __init__(self, store: Path) -> None:
        self._store = store
        program = str(Path(busy_writer.__file__))
        environment = os.environ | {"PYTHONPATH": str(Path(program).parents[1])}
        self.process = subprocess.Popen([sys.executable, program, str(store)], stdin=subprocess.PIPE, env=environment)

    def begin_run(self, events: int) -> RunFolder:
        """Have a run written, and return when this many of its events are acknowledged and most others are to come."""
        before = len(list_runs(self._store))
        assert self.process.stdin
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        until = time.monotonic() + SECONDS_MAX
        while len(runs := list_runs(self._store)) == before or acknowledged(runs[-1]) < events:
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.001)
        return runs[-1]


def acknowledged(folder: RunFolder) -> int:
    """How many events of the run the writer knows to be on disk."""
    try:
        return int.from_bytes((folder.path / "acknowledged").read_bytes(), "big")
    except FileNotFoundError:
        return 0


def rows(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return list(query(connection, statement))


@pytest.fixture
def writer(store: Path) -> Iterator[BusyWriter]:
    """The process, killed in the end."""
    busy = BusyWriter(store)
    with busy.process:
        yield busy
        busy.process.kill()


@pytest.mark.timeout(60 + QUERIES)
def test_every_query_sees_a_whole_prefix(writer: BusyWriter, store: Path) -> None:
    """Whatever instant a query meets: whole batches from the first on, all that was acknowledged, nothing in part.

    No gap, no event twice, no NULL; no event without its commit: at most one batch more than is acknowledged by then.
    The same for all queries of a connection, and never less in a later one.
    """
    caught_writing = 0
    for number in range(QUERIES // PER_RUN):
        folder = writer.begin_run(events=number * 997 % (EVENTS // 2))
        seen: list[int] = []
        for _ in range(2):
            before = acknowledged(folder)
            with contextlib.closing(connect(store, [folder.run])) as connection:
                after = acknowledged(folder)
                ((count, *_),) = rows(connection, COUNTS)
                expected = {COUNTS: (count, count, 0, count - 1), HOLES: (0,), REQUESTS: (count,) * 4}
                for statement in (COUNTS, REQUESTS, HOLES, COUNTS):
                    assert rows(connection, statement) == [expected[statement]]
            seen.append(count)
            assert count % BATCH == 0
            assert before <= count <= after + BATCH
            caught_writing += after < EVENTS
        assert seen == sorted(seen)
    assert caught_writing > QUERIES // PER_RUN / 2


def test_after_the_writer_is_killed_the_log_says_the_same(writer: BusyWriter, store: Path) -> None:
    """Killed in the middle of whatever it was at, it leaves what was acknowledged, for SQL as for the reader."""
    folder = writer.begin_run(events=1)
    writer.process.kill()
    writer.process.wait(SECONDS_MAX)
    known = acknowledged(folder)
    ((count, *_),) = rows(store, COUNTS)
    assert known <= count <= known + BATCH
    assert count < EVENTS
    assert [seq for (seq,) in rows(store, "SELECT seq FROM events ORDER BY seq")] == [
        event.seq for event in read_events(folder.log)
    ]
