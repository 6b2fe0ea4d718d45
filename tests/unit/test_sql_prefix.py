import itertools
import threading
from pathlib import Path

import pytest

from eventflow.errors import LogDamaged, StoreError, UsageError
from eventflow.event import Event, Payload
from eventflow.log.format import encode_events
from eventflow.log.layout import segment_paths
from eventflow.log.loading import ends_with_commit
from eventflow.log.reader import read_events
from eventflow.log.runs import create_run
from eventflow.log.segment import LogWriter
from eventflow.log.sql import connect, query, write_parquet
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestQueued, RunStarted
from tests.asking import ask, one
from tests.synthetic_log import write_run

TAILS: dict[str, bytes] = {
    "half a line": b'{"id":"01a2087d-ec80-75eb-ac93-97dbf275fe22","type":"run.com',
    "half a letter": '{"id":"01a2087d-ec80-75eb-ac93-97dbf275fe22","type":"ä'.encode()[:-1],
    "half a commit": b'{"commit":{"format":1,"count":0,"se',
    "zeros": bytes(5000),
    "a very long line": b'{"id":"' + b"z" * 3_000_000,
}
NO_TAILS: dict[str, bytes] = {
    "a line that is not next": b'{"id":"01a2087d-ec80-75eb-ac93-97dbf275fe22","type":"run.started","time":1}\n',
    "the commit of another batch": b'{"commit":{"format":1,"count":1,"se',
    "noise": bytes(range(256)) * 20,
    "empty lines": b"\n\n\n",
    "a carriage return": b'{"id":"\r',
    "the delimiter": b'{"id":"\x01\x01',
}


class TestWhatIsNotCommitted:
    @pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
    def test_a_torn_tail_is_not_seen(self, store: Path, tail: bytes) -> None:
        """Whatever a crash left behind the last commit, queries give what is committed: no error, no row of NULLs."""
        folder = write_run(store, "serial", requests=5)
        expected = ask(store, "SELECT id FROM events ORDER BY id")
        (segment,) = segment_paths(folder.log)
        with segment.open("ab") as file:
            file.write(tail)
        connection = connect(store)
        assert list(query(connection, "SELECT id FROM events ORDER BY id").rows()) == expected
        assert list(query(connection, "SELECT DISTINCT id IS NULL OR seq IS NULL FROM events").rows()) == [(False,)]
        assert list(query(connection, "SELECT state FROM runs").rows()) == [("completed",)]

    @pytest.mark.parametrize("tail", NO_TAILS.values(), ids=NO_TAILS)
    def test_an_end_that_no_crash_leaves_is_damage(self, store: Path, tail: bytes) -> None:
        """It may have been an acknowledged batch, so it is not passed over in silence."""
        (segment,) = segment_paths(write_run(store, "serial", requests=5).log)
        with segment.open("ab") as file:
            file.write(tail)
        with pytest.raises(LogDamaged, match="damaged at byte"):
            connect(store)

    def test_cut_anywhere(self, store: Path) -> None:
        """Cut at any byte, a segment shows the events of the batches that are whole before the cut."""
        folder = create_run(store, stage="serial")
        writer = LogWriter(folder.log, folder.run, "a")
        ends = [(writer.path.stat().st_size, 0)]
        for count in (1, 3):
            writer.append(some_events(folder.run, "a", ends[-1][1], count), count)
            ends.append((writer.path.stat().st_size, ends[-1][1] + count))
        writer.close()
        data = writer.path.read_bytes()
        near = {size + step for size, _ in ends for step in (-2, -1, 0, 1) if size + step <= len(data)}
        for cut in sorted({*range(0, len(data), 101), *near}):
            writer.path.write_bytes(data[:cut])
            expected = max((count for size, count in ends if size <= cut), default=0)
            assert one(store, "SELECT count(*) FROM events") == expected, f"cut at byte {cut}"

    def test_a_connection_sees_one_prefix(self, store: Path) -> None:
        """While a run goes on, a connection gives the same answer again and again; a new one has what came since."""
        folder = create_run(store, stage="serial")
        with Recorder(folder.log, folder.run, batch_seconds_max=None) as recorder:
            span = recorder.open_stream("run")
            span.record(RunStarted(stage="serial", workers=1))
            recorder.flush()
            connection = connect(store)
            for _ in range(100):
                span.record(RunStarted(stage="serial", workers=1))
            recorder.flush()
            assert list(query(connection, "SELECT count(*) FROM events").rows()) == [(1,)]
            assert one(store, "SELECT count(*) FROM events") == 101
            assert one(store, "SELECT state FROM runs") == "unfinished"

    def test_queries_while_a_writer_writes(self, store: Path) -> None:
        """Whenever one asks, what a busy writer has committed is there without a gap, and never less than before."""
        folder = create_run(store, stage="serial")
        enough = threading.Event()
        finished: list[bool] = []

        def write() -> None:
            writer = LogWriter(folder.log, folder.run, "a", segment_bytes_max=20_000)
            while not enough.is_set():
                writer.append(some_events(folder.run, "a", writer.seq + 1, 7), 7)
            writer.close()
            finished.append(True)

        thread = threading.Thread(target=write)
        thread.start()
        seen: list[int] = []
        while len(seen) < 5 or (seen[-1] < 100 and thread.is_alive()):
            connection = connect(store)
            ((count, last),) = query(connection, "SELECT count(*), coalesce(max(seq), -1) FROM events").rows()
            assert count == last + 1
            assert list(query(connection, "SELECT count(DISTINCT id) FROM events").rows()) == [(count,)]
            seen.append(count)
        enough.set()
        thread.join()
        assert finished
        assert all(before <= after for before, after in itertools.pairwise(seen))
        assert all(count % 7 == 0 for count in seen)

    def test_all_segments_of_all_writers(self, store: Path) -> None:
        """A run's log may be many segments of many writers."""
        folder = create_run(store, stage="processes")
        for name in ("a", "b", "c"):
            writer = LogWriter(folder.log, folder.run, name, segment_bytes_max=2_000)
            for batch in range(20):
                writer.append(some_events(folder.run, name, batch * 3, 3), 3)
            writer.close()
        assert len(segment_paths(folder.log)) > 10
        assert ask(store, "SELECT writer, count(*), max(seq) FROM events GROUP BY ALL ORDER BY ALL") == [
            ("a", 60, 59), ("b", 60, 59), ("c", 60, 59)
        ]  # fmt: skip

    def test_a_story_without_its_beginning_is_not_shown(self, store: Path) -> None:
        """A worker's log may be ahead of the log where a request was queued: no request without its URL appears."""
        folder = write_run(store, "serial", requests=3)
        (segment,) = segment_paths(folder.log)
        events = [
            event for event in read_events(folder.log) if not (event.stream == "request-1" and event.version == 0)
        ]
        segment.unlink()
        writer = LogWriter(folder.log, folder.run, "b")
        writer.append(encode_events(events), len(events))  # type: ignore[arg-type]
        writer.close()
        assert ask(store, "SELECT number FROM requests ORDER BY 1") == [(0,), (2,)]
        assert one(store, "SELECT requests FROM runs") == 2

    @pytest.mark.parametrize("old", [b'{"id":"', b'"time":', b'"type":"'])
    @pytest.mark.parametrize("torn", [b"", b"\0"], ids=["in place", "copied"])
    def test_damage_is_not_skipped(self, store: Path, old: bytes, torn: bytes) -> None:
        """A committed line that cannot be parsed makes the query fail, and the error says how to look into it."""
        folder = write_run(store, "serial", requests=3)
        (segment,) = segment_paths(folder.log)
        segment.write_bytes(segment.read_bytes().replace(old, b"\x7f" * len(old), 9) + torn)
        for statement in ("SELECT sum(length(data)) FROM events", "SELECT count(seconds) FROM requests"):
            with pytest.raises((UsageError, LogDamaged), match=r"eventflow verify|restore"):
                ask(store, statement)

    @pytest.mark.parametrize("old", [b'{"id":"', b'","type":"'])
    def test_a_line_that_is_no_event_concerns_every_view(self, store: Path, old: bytes) -> None:
        """A line that may be any event fails also the queries that would not have needed it, and is not counted."""
        folder = write_run(store, "serial", requests=3)
        (segment,) = segment_paths(folder.log)
        segment.write_bytes(segment.read_bytes().replace(old, b"\x7f" * len(old), 1))
        for statement in ("SELECT count(*) FROM events", "FROM samples", "FROM events WHERE type = 'run.completed'"):
            with pytest.raises((UsageError, LogDamaged), match=r"eventflow verify|restore"):
                ask(store, statement)

    @pytest.mark.parametrize("torn", [b"", b"\0"], ids=["in place", "copied"])
    def test_damage_to_letters_is_not_skipped(self, store: Path, torn: bytes) -> None:
        """Bytes that are not UTF-8 among the committed ones are an error."""
        folder = write_run(store, "serial", requests=3)
        (segment,) = segment_paths(folder.log)
        segment.write_bytes(segment.read_bytes().replace(b"example", b"ex\xffmple", 1) + torn)
        with pytest.raises((UsageError, LogDamaged), match=r"eventflow verify|restore"):
            ask(store, "SELECT count(*) FROM events")

    def test_a_run_without_its_description_is_an_error(self, store: Path) -> None:
        """A `run.json` that cannot be read is named."""
        folder = write_run(store, "serial", requests=1)
        (folder.path / "run.json").write_text("{")
        with pytest.raises(StoreError, match=r"run\.json"):
            connect(store)

    def test_the_end_of_a_segment(self) -> None:
        """Only a newline, a commit line and its newline, at the very end, are an end."""
        commit = b'\n{"commit":{"format":1}}\n'
        assert ends_with_commit(b"x" + commit)
        cases = (
            b"",
            b"\n",
            commit[1:],
            commit[:-1],
            commit + b"\n",
            commit + b"{",
            b'\n{"id":{"commit":1}}\n',
            b"x" + commit[1:],
        )
        assert not [case for case in cases if ends_with_commit(case)]


def some_events(run: str, writer: str, first_seq: int, count: int) -> bytes:
    """The lines of events whose texts are not ASCII."""
    sources = SeededSources(first_seq)
    events: list[Event[Payload]] = []
    for seq in range(first_seq, first_seq + count):
        identity = (
            f"{sources.event_id()[:-6]}{seq:06x}",
            RequestQueued.TYPE,
            sources.time_ns(),
            run,
            f"request-{seq}",
            0,
        )
        payload = RequestQueued(number=seq, url=f"http://h/ä€😀\n\x01{seq}", name="ü")
        events.append(Event(*identity, writer, seq, sources.trace_id(), sources.span_id(), payload))
    return encode_events(events)


class TestText:
    def test_any_text_comes_back(self, store: Path) -> None:
        """Letters of all alphabets, control characters, quotes and delimiters in a payload come back as they were."""
        text = "".join(map(chr, range(1, 128))) + "ä€😀\u2028\ufeff'\";--"
        folder = create_run(store, stage="serial")
        with Recorder(folder.log, folder.run) as recorder:
            recorder.open_stream("request-0").record(RequestQueued(number=0, url=text, name=text * 2))
        assert ask(store, "SELECT url, name, data->>'url' FROM requests JOIN events USING (stream)") == [
            (text, text * 2, text)
        ]

    def test_long_lines(self, store: Path) -> None:
        """A line of a megabyte is read like any other."""
        folder = create_run(store, stage="serial")
        with Recorder(folder.log, folder.run) as recorder:
            recorder.open_stream("request-0").record(RequestQueued(number=0, url="x" * 1_000_000, name="n"))
        assert one(store, "SELECT length(url) FROM requests") == 1_000_000

    @pytest.mark.parametrize("name", ["it's", 'a "b"', "*?[x]{a,b}", "new\nline", "ü😀", "%41 #;--", "back\\slash"])
    def test_stores_of_any_name(self, tmp_path: Path, name: str) -> None:
        """The path of a store may hold any character, and never reads another file."""
        store = tmp_path / name / "store"
        (tmp_path / "x").mkdir()
        write_run(store, requests=2)
        assert one(store, "SELECT requests FROM runs") == 2
        write_parquet(store, "FROM runs", tmp_path / name / f"{name}.parquet")

    def test_a_relative_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store named from the working folder stays readable when that changes."""
        write_run(tmp_path / "store", requests=2)
        monkeypatch.chdir(tmp_path)
        connection = connect(Path("store"))
        monkeypatch.chdir("/")
        assert list(query(connection, "SELECT requests FROM runs").rows()) == [(2,)]
