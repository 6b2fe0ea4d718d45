"""Segments: batches that count whole or not at all, readers that see only what is committed, one writer for each."""

import errno
import threading
from pathlib import Path

import pytest

from eventflow.disk import Disk
from eventflow.errors import LogBusy, LogDamaged, LogWriteFailed
from eventflow.log import reader
from eventflow.log.format import batch_bounds, decode_commit, genesis
from eventflow.log.reader import RunTail, SegmentTail, read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import LogWriter
from eventflow.log.verify import SegmentReport, verify_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import RequestFailed


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


def fill(run: RunFolder, count: int, *, batch: int = 10, **options: int) -> list[Path]:
    """Write `count` events in batches; gives the segments."""
    recorder = Recorder(run.log, run.run, batch_seconds_max=None)
    if options:
        recorder._writer._segment_bytes_max = options["segment_bytes_max"]
    span = recorder.open_stream("request-0")
    for number in range(count):
        span.record(RequestFailed(error="E", message=f"line\nbreak {number} é", seconds=0.5))
        if number % batch == batch - 1:
            recorder.flush()
    recorder.close()
    return sorted(run.log.glob("*/*.ndjson"))


def committed_lines(data: bytes) -> list[bytes]:
    """The event lines that a commit line covers."""
    end = max((end for _, end in batch_bounds(data, len(data))), default=0)
    return [line for line in data[:end].split(b"\n") if line and not line.startswith(b'{"commit"')]


def reports(run: RunFolder) -> list[SegmentReport]:
    """What verify says."""
    return list(verify_run(run.log, run.run))


def test_a_segment_is_lines_of_events_each_batch_ended_by_a_commit(run: RunFolder) -> None:
    """The format: an opening commit of an empty batch, then event lines and their commit line.

    Seq is the last event's.
    """
    (path,) = fill(run, 25)
    lines = path.read_bytes().splitlines()
    commits = [(place, decode_commit(line, "")) for place, line in enumerate(lines) if line.startswith(b'{"commit"')]
    assert [place for place, _ in commits] == [0, 11, 22, 28, 29]
    assert [(commit.count, commit.seq) for _, commit in commits] == [(0, -1), (10, 9), (10, 19), (5, 24), (0, 24)]
    assert commits[0][1].chain == genesis(run.run, path.parent.name).hex()


def test_events_read_back_in_order_with_gapless_seq_and_version(run: RunFolder) -> None:
    """seq counts the writer's events, version the stream's; each event links to the one before it."""
    fill(run, 25)
    events = list(read_events(run.log))
    assert [event.seq for event in events] == list(range(25)) == [event.version for event in events]
    assert [event.links[0].id for event in events[1:]] == [event.id for event in events[:-1]]
    assert events[0].links == ()


def test_verify_finds_a_good_log_good(run: RunFolder) -> None:
    """Events, batches and bytes are counted; nothing is torn or damaged."""
    (path,) = fill(run, 25)
    assert reports(run) == [SegmentReport(str(path), 25, 5, path.stat().st_size)]


@pytest.mark.parametrize("torn", [b'{"id":"x', b"\x00" * 100, b'{"commit":{"format":1,"count":0'])
def test_a_torn_tail_is_no_damage_and_nobody_reads_it(run: RunFolder, torn: bytes) -> None:
    """What has no whole commit line was never acknowledged: verify counts its bytes, readers do not see it."""
    (path,) = fill(run, 10)
    with path.open("ab") as file:
        file.write(torn)
    (report,) = reports(run)
    assert (report.damage, report.torn_bytes) == (None, len(torn))
    assert len(list(read_events(run.log))) == 10


def test_events_without_their_commit_line_do_not_count(run: RunFolder) -> None:
    """A whole event line is not enough."""
    (path,) = fill(run, 10)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b'{"commit":{"format":1,"count":10')])
    assert list(read_events(run.log)) == []
    assert reports(run)[0].events == 0


def test_a_segment_from_another_writer_or_a_missing_one_is_found(run: RunFolder, tmp_path: Path) -> None:
    """The chain begins with the run and the writer, and goes on from segment to segment."""
    paths = fill(run, 30, segment_bytes_max=2_000)
    assert len(paths) > 2
    assert [report.damage for report in reports(run)] == [None] * len(paths)
    assert len(list(read_events(run.log))) == 30
    second = paths[1].read_bytes()
    paths[1].write_bytes(paths[2].read_bytes())
    assert "does not follow the segment before it" in (reports(run)[1].damage or "")
    paths[1].unlink()
    assert "segment 00000001 is missing" in (reports(run)[1].damage or "")
    other = create_run(tmp_path / "other", stage="serial")
    writer = other.log / paths[0].parent.name
    writer.mkdir()
    (writer / "00000000.ndjson").write_bytes(second)
    assert reports(other)[0].damage


def test_a_tail_gives_each_committed_line_once_while_the_log_grows(run: RunFolder) -> None:
    """Polling between batches, in mid batch and in mid line: no line twice, none missing, none uncommitted."""
    (path,) = fill(run, 20, batch=5)
    whole = path.read_bytes()
    growing = run.path / "growing" / run.run / "log"
    writer = path.parent.name
    (growing / writer).mkdir(parents=True)
    tail, seen = RunTail(growing), []
    for end in range(0, len(whole) + 1, 97):
        (growing / writer / "00000000.ndjson").write_bytes(whole[:end])
        for lines in tail.poll():
            seen += lines
        assert seen == committed_lines(whole[:end])
    (growing / writer / "00000000.ndjson").write_bytes(whole)
    for lines in tail.poll():
        seen += lines
    assert len(seen) == 20


def test_a_batch_larger_than_a_block_is_read(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block grows until the batch fits."""
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 100)
    (path,) = fill(run, 30, batch=30)
    assert [batch.count for batch in SegmentTail(path).poll()] == [0, 30, 0]


def test_a_committed_line_that_is_no_event_is_named_when_it_is_read(run: RunFolder) -> None:
    """Reading checks the chain, and names file, offset and line."""
    (path,) = fill(run, 3)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"time":1', b'"time":x', 1))
    with pytest.raises(LogDamaged, match=r"00000000\.ndjson: damaged at byte \d+, line 2"):
        list(read_events(run.log))


class FaultyDisk(Disk):
    """A disk that fails from its n-th call of one kind on."""

    def __init__(self, call: str, after: int, code: int) -> None:
        self.call, self.left, self.code = call, after, code
        self.synced_after_failure = 0

    def _count(self, call: str) -> None:
        if call == self.call:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.code, "injected")
        elif call == "sync" and self.left < 0:
            self.synced_after_failure += 1

    def write_all(self, descriptor: int, data: bytes | bytearray | memoryview) -> None:
        try:
            self._count("write_all")
        except OSError:
            super().write_all(descriptor, data[: len(data) // 2])  # what a full disk does: a part of it
            raise
        super().write_all(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._count("sync")
        super().sync(descriptor)


@pytest.mark.parametrize(("call", "code"), [("write_all", errno.ENOSPC), ("sync", errno.EIO)])
def test_a_failed_write_or_fsync_ends_the_writer_and_leaves_only_whole_batches(
    run: RunFolder, call: str, code: int
) -> None:
    """Fail-stop.

    The batch does not count, no later one is accepted, nothing is synced again, the file is cut to its last commit.
    """
    disk = FaultyDisk(call, 2, code)
    writer = LogWriter(run.log, run.run, "w", disk)
    line = b'{"id":"x"}\n'
    writer.append(line, 1)
    good = writer.path.read_bytes()
    for _ in range(2):
        with pytest.raises(LogWriteFailed, match=r"injected.*then resume"):
            writer.append(line, 1)
    assert writer.path.read_bytes() == good
    assert disk.synced_after_failure == 0


def test_a_segment_is_for_one_process_and_for_its_owner_only(run: RunFolder) -> None:
    """The lock shows who is alive; folders are 0700 and files 0600."""
    assert not run.is_live()
    writer = LogWriter(run.log, run.run, "w")
    assert run.is_live()
    assert writer.path.stat().st_mode & 0o777 == 0o600
    assert writer.folder.stat().st_mode & 0o777 == 0o700 == run.path.stat().st_mode & 0o777
    writer.close()
    assert not run.is_live()


def test_two_writers_of_one_name_are_refused_while_one_lives(run: RunFolder) -> None:
    """The second goes on where the first ended, but not before."""
    first = LogWriter(run.log, run.run, "w")
    with pytest.raises(LogBusy, match="being written by another process"):
        LogWriter(run.log, run.run, "w")
    first.append(b'{"id":"x"}\n', 1)
    first.close()
    assert LogWriter(run.log, run.run, "w").seq == 0


def test_a_reader_that_looks_who_is_alive_never_makes_a_writer_fail(run: RunFolder) -> None:
    """The reader's look takes the lock for a moment; a new writer waits for it."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            run.is_live()

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(100):
        LogWriter(run.log, run.run, f"w{number}").close()
    stop.set()
    thread.join()
