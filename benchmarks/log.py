"""How fast the log takes events and gives them back, against the event store that Python people use and plain SQLite.

Peers, in the same process, round after round: `eventsourcing` with its SQLite and its in-memory recorder, `sqlite3`
itself (WAL, synchronous FULL and NORMAL), and for single events the bare `write` and `fdatasync` of the same bytes.
eventflow begins with ready `Event` objects and encodes in the measured time; the peers get bytes that are encoded
already. Durable means: after each batch it is on disk. SQLite in NORMAL and the in-memory recorder do not promise that;
they are shown for scale.

    python benchmarks/log.py --events 50000 --rounds 5 --folder /var/tmp
"""

import argparse
import itertools
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import psutil
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from eventflow.event import Event, Payload
from eventflow.log.appending import Appender
from eventflow.log.following import follow
from eventflow.log.format import encode_events
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.verify import verify_run
from eventflow.recorder import Recorder
from eventflow.sources import SystemSources
from eventflow.vocabulary import RequestCompleted

BATCH = 1_000
SINGLES = 300
WRITER = "writer-1"
SOURCES = SystemSources()
Rates = dict[str, list[float]]


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, help="events in each round, in batches of 1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, help="where to write: the disk that is measured; default: the temporary one"
    )
    parser.add_argument("--memory-events", type=int, default=0, help="append so many and say how memory grew")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-", dir=options.folder))
    try:
        size = len(encode_events(make_events("r", 1_000))) // 1_000
        sys.stdout.write(f"an event is {size} bytes; medians of {options.rounds} interleaved rounds\n")
        show("appended durably, batches of 1000", measure(options.rounds, batch_cases(folder, options.events)))
        show("appended durably, one by one", measure(options.rounds, single_cases(folder)))
        show("read back and decoded", measure(options.rounds, read_cases(folder, options.events)))
        show("processes and followers", measure(options.rounds, process_cases(folder, options.events)))
        show_recorder(folder, options.rounds)
        if options.memory_events:
            show_memory(folder, options.memory_events)
    finally:
        shutil.rmtree(folder)


def measure(rounds: int, cases: dict[str, Callable[[], tuple[int, float]]]) -> Rates:
    """Every case once in each round; gives the rates in events a second."""
    rates: Rates = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            count, seconds = case()
            rates[name].append(count / seconds)
    return rates


def show(title: str, rates: Rates) -> None:
    """Print medians, and how many times the first of them each is."""
    first = statistics.median(next(iter(rates.values())))
    sys.stdout.write(f"\n{title:<46}{'events/s':>12}{'eventflow is':>15}\n")
    for name, found in rates.items():
        middle = statistics.median(found)
        sys.stdout.write(f"  {name:<44}{middle:>12,.0f}{first / middle:>14.2f}x\n")


def make_events(run: str, count: int, writer: str = WRITER) -> list[Event[Payload]]:
    """Ready events in their places: a thousand stories, told in turn."""
    trace, span = SOURCES.trace_id(), SOURCES.span_id()
    what = RequestCompleted(name="set/00017.bin", bytes=70_123, seconds=0.071_3)
    return [
        Event(
            SOURCES.event_id(), what.TYPE, 1, run, f"request-{seq % 1000}", seq // 1000, writer, seq, trace, span, what
        )
        for seq in range(count)
    ]


def batch_cases(folder: Path, count: int) -> dict[str, Callable[[], tuple[int, float]]]:
    """Batches of a thousand."""
    stored = [encode_events([event]) for event in make_events("r", count)]
    return {
        "eventflow": lambda: _append(new_run(folder), count, BATCH),
        "eventsourcing, SQLite": lambda: _insert(_sqlite_recorder(folder), stored, BATCH),
        "sqlite3, WAL, synchronous=FULL": lambda: _insert_plain(folder, "FULL", stored, BATCH),
        "sqlite3, WAL, synchronous=NORMAL (not durable)": lambda: _insert_plain(folder, "NORMAL", stored, BATCH),
        "eventsourcing, in memory (not durable)": lambda: _insert(POPOApplicationRecorder(), stored, BATCH),
    }


def single_cases(folder: Path) -> dict[str, Callable[[], tuple[int, float]]]:
    """One event at a time."""
    stored = [encode_events([event]) for event in make_events("r", SINGLES)]
    return {
        "eventflow": lambda: _append(new_run(folder), SINGLES, 1),
        "bare write and fdatasync": lambda: _write_bare(folder, stored),
        "eventsourcing, SQLite": lambda: _insert(_sqlite_recorder(folder), stored, 1),
        "sqlite3, WAL, synchronous=FULL": lambda: _insert_plain(folder, "FULL", stored, 1),
    }


def read_cases(folder: Path, count: int) -> dict[str, Callable[[], tuple[int, float]]]:
    """Everything that was appended."""
    run, recorder, memory = new_run(folder), _sqlite_recorder(folder), POPOApplicationRecorder()
    _append(run, count, BATCH)
    stored = [encode_events([event]) for event in make_events("r", count)]
    for peer in (recorder, memory):
        _insert(peer, stored, BATCH)

    def verify() -> tuple[int, float]:
        return _timed(lambda: sum(report.events for report in verify_run(run.log, run.run)))

    return {
        "eventflow, chain checked": lambda: _timed(lambda: sum(1 for _ in read_events(run.log))),
        "eventflow verify": verify,
        "eventsourcing, SQLite": lambda: _select(recorder),
        "eventsourcing, in memory": lambda: _select(memory),
    }


def process_cases(folder: Path, count: int) -> dict[str, Callable[[], tuple[int, float]]]:
    """Writers in processes of their own, and a reader that follows one."""
    return {
        "one process": lambda: _append_in_processes(new_run(folder), count, 1),
        "two processes": lambda: _append_in_processes(new_run(folder), count, 2),
        "one, and a reader that follows to the end": lambda: _append_and_follow(new_run(folder), count),
    }


def show_recorder(folder: Path, rounds: int) -> None:
    """What a call of `record` takes, while the writer thread writes what came before."""
    taken: list[int] = []
    run = new_run(folder)
    with Recorder(run.log, run.run) as recorder:
        span = recorder.open_stream("request-0")
        what = RequestCompleted(name="set/00017.bin", bytes=70_123, seconds=0.071_3)
        for _ in range(rounds * 20):
            for _ in range(1_000):
                start = time.perf_counter_ns()
                span.record(what)
                taken.append(time.perf_counter_ns() - start)
            time.sleep(0.005)
    taken.sort()
    middle, p999 = taken[len(taken) // 2] / 1e3, taken[len(taken) * 999 // 1000] / 1e3
    sys.stdout.write(f"\na call of record: median {middle:.2f} µs, p99.9 {p999:.1f} µs, {len(taken)} calls\n")


def show_memory(folder: Path, count: int) -> None:
    """How much memory grows while many events are appended and followed."""
    run, process = new_run(folder), psutil.Process()
    before = most = process.memory_info().rss
    with Appender(run.log, WRITER) as appender:
        for _ in range(count // 10_000):
            appender.append(make_events(run.run, 10_000))
            most = max(most, process.memory_info().rss)
    sys.stdout.write(f"\n{count} events appended: memory grew by {(most - before) / 2**20:.1f} MiB at most\n")


def new_run(folder: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(Path(tempfile.mkdtemp(dir=folder)), stage="benchmark")


def _timed(work: Callable[[], int]) -> tuple[int, float]:
    start = time.perf_counter()
    count = work()
    return count, time.perf_counter() - start


def _append(run: RunFolder, count: int, batch: int, writer: str = WRITER) -> tuple[int, float]:
    events = make_events(run.run, count, writer)
    with Appender(run.log, writer) as appender:
        start = time.perf_counter()
        for first in range(0, count, batch):
            appender.append(events[first : first + batch])
        seconds = time.perf_counter() - start
    return count, seconds


def _append_in_processes(run: RunFolder, count: int, processes: int) -> tuple[int, float]:
    """From the moment when all are ready to the moment when the last one is done."""
    context = multiprocessing.get_context("fork")
    ready, done = context.Barrier(processes + 1), context.Barrier(processes + 1)
    workers = [
        context.Process(target=_append_when_ready, args=(run, count, f"writer-{number}", ready, done))
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    done.wait()
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return count * processes, seconds


def _append_when_ready(
    run: RunFolder, count: int, writer: str, ready: threading.Barrier, done: threading.Barrier
) -> None:
    events = make_events(run.run, count, writer)
    with Appender(run.log, writer) as appender:
        ready.wait()
        for first in range(0, count, BATCH):
            appender.append(events[first : first + BATCH])
        done.wait()


def _append_and_follow(run: RunFolder, count: int) -> tuple[int, float]:
    context = multiprocessing.get_context("fork")
    ready, done = context.Barrier(2), context.Barrier(2)
    worker = context.Process(target=_append_when_ready, args=(run, count, WRITER, ready, done))
    worker.start()
    ready.wait()
    start = time.perf_counter()
    found = sum(1 for _ in itertools.islice(follow(run.log), count))
    seconds = time.perf_counter() - start
    done.wait()
    worker.join()
    return found, seconds


def _write_bare(folder: Path, stored: Sequence[bytes]) -> tuple[int, float]:
    descriptor = os.open(Path(tempfile.mkdtemp(dir=folder)) / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    commit = b"c" * 118 + b"\n"
    try:
        start = time.perf_counter()
        for line in stored:
            os.write(descriptor, line + commit)
            os.fdatasync(descriptor)
        return len(stored), time.perf_counter() - start
    finally:
        os.close(descriptor)


def _sqlite_recorder(folder: Path) -> SQLiteApplicationRecorder:
    recorder = SQLiteApplicationRecorder(SQLiteDatastore(str(Path(tempfile.mkdtemp(dir=folder)) / "events.db")))
    recorder.create_table()
    return recorder


def _insert(recorder: ApplicationRecorder, stored: Sequence[bytes], batch: int) -> tuple[int, float]:
    names: list[UUID] = [uuid4() for _ in range(1_000)]
    events = [StoredEvent(names[n % 1000], n // 1000, "request.completed", state) for n, state in enumerate(stored)]
    start = time.perf_counter()
    for first in range(0, len(events), batch):
        recorder.insert_events(events[first : first + batch])
    return len(events), time.perf_counter() - start


def _select(recorder: ApplicationRecorder) -> tuple[int, float]:
    start = time.perf_counter()
    count, last = 0, 1
    while found := recorder.select_notifications(last, BATCH):
        count, last = count + len(found), int(found[-1].id) + 1
    return count, time.perf_counter() - start


def _insert_plain(folder: Path, synchronous: str, stored: Sequence[bytes], batch: int) -> tuple[int, float]:
    connection = sqlite3.connect(Path(tempfile.mkdtemp(dir=folder)) / "events.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE events (stream TEXT, version INTEGER, line BLOB, PRIMARY KEY (stream, version))")
    rows = [(f"request-{number % 1000}", number // 1000, line) for number, line in enumerate(stored)]
    start = time.perf_counter()
    for first in range(0, len(rows), batch):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows[first : first + batch])
        connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return len(rows), seconds


if __name__ == "__main__":
    main()
