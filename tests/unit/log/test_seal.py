"""Sealing: the same events in another form, at every moment, whatever happens on the way."""

import errno
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from eventflow.disk import Disk
from eventflow.errors import LogBusy, LogDamaged, LogWriteFailed, NewerFormat
from eventflow.event import Event
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.layout import list_segments, segment_paths, writer_folders
from eventflow.log.reader import RunTail, read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.segment import LogWriter
from eventflow.log.settled import SETTLED_VIEWS, Settled, is_settled, settled_path, view_path
from eventflow.log.sql import connect, query
from eventflow.log.verify import verify_run
from eventflow.log.views import VIEWS
from eventflow.recorder import Recorder
from eventflow.vocabulary import RequestFailed
from tests.synthetic_log import write_run

ODD = (
    b'{"id":"01a2087d-ec80-75eb-ac93-97dbf275fe22","type":"a.b","time":5,"run":"R","stream":"s \\"q\\" \xc3\xa9",'
    b'"version":0,"writer":"w","seq":0,"trace_id":"t","span_id":"s","data":{"big":1e16,"z":[ 1,2 ]},"later":{"x":1}}\n'
    b'{"id":"01a2087d-ec80-75eb-ac93-97dbf275fe23","type":"a.b","time":6,"run":"R","stream":"s","version":1,'
    b'"writer":"w","seq":1,"trace_id":"t","span_id":"s","data":{}}\n'
)


def lines_of(run: RunFolder) -> list[bytes]:
    """All event lines."""
    return [line for lines in RunTail(run.log).poll() for line in lines]


def answers(store: Path) -> dict[str, list[str]]:
    """Every row of every view, in an order of its own."""
    connection = connect(store)
    return {view.name: sorted(map(repr, query(connection, f"FROM {view.name}").rows())) for view in VIEWS}


def damage(run: RunFolder) -> list[str | None]:
    """What verify finds."""
    return [report.damage for report in verify_run(run.log, run.run)]


def small_run(store: Path, events: int = 60) -> RunFolder:
    """A closed run of one writer in several segments."""
    run = create_run(store, stage="serial")
    recorder = Recorder(run.log, run.run, batch_seconds_max=None)
    recorder._writer._segment_bytes_max = 4_000
    span = recorder.open_stream("request-0")
    for number in range(events):
        span.record(RequestFailed(error="E", message=f"é {number}", seconds=0.5))
        if number % 7 == 6:
            recorder.flush()
    recorder.close()
    return run


def test_sealed_and_live_read_the_same_through_every_interface(store: Path) -> None:
    """Lines, events, filters, views, and what verify counts; and the files are smaller and for their owner only."""
    run = write_run(store, "threads", requests=300)
    before = (
        lines_of(run),
        list(read_events(run.log)),
        answers(store),
        sum(r.events for r in verify_run(run.log, run.run)),
    )
    chosen = list(read_events(run.log, streams=["request-7"], types=["attempt."]))
    (sealed,) = seal_run(run)
    assert [path.suffix for path in segment_paths(run.log)] == [".parquet"]
    assert is_settled(run)
    after = (
        lines_of(run),
        list(read_events(run.log)),
        answers(store),
        sum(r.events for r in verify_run(run.log, run.run)),
    )
    assert [event.id for event in before[1]] == [event.id for event in after[1]]
    assert before[0] == after[0]
    for view, rows in before[2].items():
        assert rows == after[2][view], view
    assert before[3] == after[3]
    assert [event.id for event in chosen] == [
        event.id for event in read_events(run.log, streams=["request-7"], types=["attempt."])
    ]
    assert damage(run) == [None]
    assert sealed.bytes_after < sealed.bytes_before / 4
    assert {path.stat().st_mode & 0o777 for path in run.path.rglob("*.parquet")} == {0o600}


def test_lines_that_the_columns_do_not_tell_are_kept_byte_for_byte(store: Path) -> None:
    """Unknown fields, odd numbers, spaces and escapes come out as they went in."""
    run = create_run(store, stage="serial")
    lines = ODD.replace(b'"R"', f'"{run.run}"'.encode())
    writer = LogWriter(run.log, run.run, "w")
    writer.append(lines, 2)
    writer.close()
    before = answers(store)
    list(seal_run(run))
    assert b"".join(line + b"\n" for line in lines_of(run)) == lines
    assert damage(run) == [None]
    assert answers(store) == before


def test_a_sealed_run_can_be_gone_on_with(store: Path) -> None:
    """Its writer begins a new segment; the kept views count no more until it is sealed again."""
    run = small_run(store)
    (folder,) = writer_folders(run.log)
    list(seal_run(run))
    numbers = [segment.number for segment in list_segments(folder)]
    with Appender(run.log, folder.name) as appender:
        what = RequestFailed(error="E", message="m", seconds=1)
        appender.append([Event("i" * 36, "request.failed", 9, "", "request-1", 0, "", 0, "t" * 32, "s" * 16, what)], -1)
        assert not is_settled(run)
        assert query(connect(store), "SELECT count(*) AS n FROM events").records().__next__() == {"n": 61}
        assert list(seal_run(run)) == []
    assert [segment.number for segment in list_segments(folder)] == [*numbers, len(numbers)]
    assert len(list(seal_run(run))) == 1
    assert is_settled(run)
    assert len(lines_of(run)) == 61
    assert damage(run) == [None] * (len(numbers) + 1)


def test_views_of_another_version_do_not_count(store: Path) -> None:
    """Kept views that other statements made are computed anew in each query, and written anew by the next sealing."""
    run = small_run(store)
    list(seal_run(run))
    expected = answers(store)
    said = msgspec.json.decode(settled_path(run).read_bytes(), type=Settled)
    settled_path(run).write_bytes(msgspec.json.encode(msgspec.structs.replace(said, views="0" * 32)))
    for view in SETTLED_VIEWS:
        view_path(run, view).write_bytes(b"of columns that are no more")
    assert not is_settled(run)
    assert answers(store) == expected
    assert list(seal_run(run)) == []
    assert is_settled(run)
    assert answers(store) == expected


def test_readers_go_on_when_a_segment_is_sealed_under_them(store: Path) -> None:
    """A tail in the middle of a live segment gives the rest from the sealed one: nothing twice, nothing missing."""
    run = small_run(store)
    expected = [event.id for event in read_events(run.log)]
    tail, lines = EventTail(run.log), RunTail(run.log)
    events, seen = tail.poll(), lines.poll()
    got = [next(events).id for _ in range(17)]
    first = len(next(seen))
    with Subscription(run.path, "reader") as subscription:
        done = [event.id for event in islice(subscription.poll(), 20)]
    list(seal_run(run))
    got += [event.id for event in tail.poll()]
    assert got == expected
    assert first + sum(len(part) for part in lines.poll()) == len(expected)
    with Subscription(run.path, "reader") as subscription:
        assert done + [event.id for event in subscription.poll()] == expected


def test_what_is_written_to_is_left_alone(store: Path) -> None:
    """Of a live writer all but the last segment; a second sealing at the same time is refused."""
    run = create_run(store, stage="serial")
    writer = LogWriter(run.log, run.run, "w", segment_bytes_max=200)
    for seq in range(3):
        writer.append(
            ODD.splitlines(keepends=True)[1]
            .replace(b'"seq":1', b'"seq":%d' % seq)
            .replace(b'"R"', f'"{run.run}"'.encode()),
            1,
        )
    lock = Disk().lock(run.path / "seal.lock")
    with pytest.raises(LogBusy):
        list(seal_run(run))
    os.close(lock)
    assert len(list(seal_run(run))) == 3
    assert [path.suffix for path in segment_paths(run.log)] == [".parquet"] * 3 + [".ndjson"]
    writer.append(
        ODD.splitlines(keepends=True)[1].replace(b'"seq":1', b'"seq":3').replace(b'"R"', f'"{run.run}"'.encode()), 1
    )
    writer.close()
    assert damage(run) == [None] * 5


def test_keep_leaves_the_lines(store: Path) -> None:
    """Both forms are there, the sealed one counts, and the next sealing without it removes the lines."""
    run = small_run(store)
    count = len(list(seal_run(run, keep=True)))
    assert len(list(run.log.rglob("*.ndjson"))) == count == len(list(run.log.rglob("*.parquet")))
    assert len(lines_of(run)) == 60
    assert list(seal_run(run)) == []
    assert not list(run.log.rglob("*.ndjson"))


def test_a_torn_tail_is_cut_and_damage_is_not_sealed(store: Path) -> None:
    """A segment goes into its sealed form only if every byte of it is right."""
    run = small_run(store)
    *_, last = segment_paths(run.log)
    with last.open("ab") as file:
        file.write(b'{"id":"x')
    first = segment_paths(run.log)[0]
    whole = first.read_bytes()
    first.write_bytes(whole.replace(b"request.failed", b"request.fouled", 1))
    with pytest.raises(LogDamaged):
        list(seal_run(run))
    assert not list(run.log.rglob("*.parquet"))
    first.write_bytes(whole)
    list(seal_run(run))
    assert len(lines_of(run)) == 60


@pytest.mark.parametrize("change", ["swap", "foreign", "cut", "garble", "missing"])
def test_verify_finds_damage_in_sealed_segments(store: Path, tmp_path: Path, change: str) -> None:
    """Swapped, foreign, cut, garbled and missing ones."""
    run, other = small_run(store), small_run(tmp_path / "other")
    list(seal_run(run))
    list(seal_run(other))
    paths, foreign = segment_paths(run.log), segment_paths(other.log)
    data = paths[1].read_bytes()
    changes: dict[str, Callable[[], object]] = {
        "swap": lambda: paths[1].write_bytes(paths[2].read_bytes()),
        "foreign": lambda: paths[1].write_bytes(foreign[1].read_bytes()),
        "cut": lambda: paths[1].write_bytes(data[: len(data) // 2]),
        "garble": lambda: paths[1].write_bytes(data[:200] + bytes(50) + data[250:]),
        "missing": paths[1].unlink,
    }
    changes[change]()
    found = damage(run)
    assert found[1]
    assert "00000001" in found[1]
    assert sum(text is not None for text in found) == 1
    with pytest.raises(LogDamaged):
        list(read_events(run.log))


def test_a_newer_sealed_format_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fix in the message."""
    run = small_run(store)
    monkeypatch.setattr("eventflow.log.seal.FORMAT", 2)
    monkeypatch.setattr("eventflow.log.sealed.FORMAT", 2)
    list(seal_run(run))
    monkeypatch.undo()
    with pytest.raises(NewerFormat, match="upgrade eventflow"):
        list(read_events(run.log))


class StoppingDisk(Disk):
    """A disk that stops for good at its n-th call: the process dies there, or the disk fails."""

    def __init__(self, left: int, problem: BaseException) -> None:
        self.left, self.problem = left, problem

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name in {
            "create",
            "open",
            "sync",
            "truncate",
            "rename",
            "remove",
            "sync_folder",
            "create_folder",
            "write_all",
        }:
            if self.left == 0:
                raise self.problem
            self.left -= 1
        return found


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_sealing_can_be_stopped_at_every_step_and_begun_again(store: Path, problem: BaseException) -> None:
    """At each step the run reads as before, and verify finds it good; at the end it is sealed."""
    run = small_run(store, 14)
    expected = lines_of(run)
    for step in range(0, 200, 3):
        try:
            list(seal_run(run, disk=StoppingDisk(step, problem)))
            break
        except (KeyboardInterrupt, LogWriteFailed):
            assert lines_of(run) == expected
            assert set(damage(run)) == {None}
    assert step > 20
    assert is_settled(run)
    assert lines_of(run) == expected
    assert not [path for path in run.path.rglob("*") if path.suffix in {".new", ".ndjson"}]


def test_many_small_batches_are_sealed_in_a_time_that_grows_with_their_number_only(store: Path) -> None:
    """Twenty thousand batches of one event: joined by equality, not each with each."""
    run = create_run(store, stage="serial")
    line = ODD.splitlines(keepends=True)[1].replace(b'"R"', f'"{run.run}"'.encode())
    writer = LogWriter(run.log, run.run, "w", UnsyncedDisk())
    for seq in range(20_000):
        writer.append(line.replace(b'"seq":1', b'"seq":%d' % seq), 1)
    writer.close()
    (sealed,) = seal_run(run)
    assert sealed.events == 20_000
    assert damage(run) == [None]
    assert len(lines_of(run)) == 20_000


class UnsyncedDisk(Disk):
    """A disk that is fast and promises nothing."""

    def sync(self, descriptor: int) -> None:
        del descriptor
