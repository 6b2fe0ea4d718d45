import re
import runpy
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec
import pytest

import eventflow
from eventflow import metrics
from eventflow.errors import UnknownRun, UsageError
from eventflow.log.layout import segment_paths
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run, list_runs
from eventflow.log.sql import VIEWS, Answer, View, connect, query, write_parquet
from eventflow.progress import RequestState, Tally
from eventflow.recorder import Recorder
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestQueued
from tests.asking import ask, one
from tests.synthetic_log import PROFILES, START_NS, resume_run, write_ladder, write_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "sql.md"

each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)


def fold(folder: RunFolder) -> Tally:
    """What the log says of a run, by the fold that the progress bar uses: nothing of DuckDB in it."""
    tally = Tally()
    for path in segment_paths(folder.log):
        tally.feed(line for line in path.read_bytes().splitlines() if not line.startswith(b'{"commit"'))
    return tally


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run of each stage."""
    store = tmp_path_factory.mktemp("ladder") / "store"
    write_ladder(store, requests=60)
    return store


class TestViews:
    @each_view
    def test_columns_are_as_described(self, ladder: Path, view: View) -> None:
        """A view has the columns that `VIEWS` says, of these types, in this order."""
        described = [(name, kind) for name, kind, *_ in ask(ladder, f"DESCRIBE {view.name}")]
        assert described == [(column.name, column.type) for column in view.columns]

    @each_view
    def test_a_store_without_runs_gives_empty_views(self, store: Path, view: View) -> None:
        """Without a run, or without an event in it, each view is there, empty, with the same columns and types."""
        for path in (store, create_run(store, stage="serial").path.parent):
            answer = query(connect(path), f"FROM {view.name}")
            assert (answer.columns, list(answer.rows())) == (tuple(column.name for column in view.columns), [])
            assert answer.types == tuple(column.type for column in view.columns)

    def test_views_is_all_there_is(self, ladder: Path) -> None:
        """The views that a person sees are those of `VIEWS`."""
        names = ask(ladder, "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'")
        assert {name for (name,) in names} == {view.name for view in VIEWS}

    def test_events_are_what_was_written(self, ladder: Path) -> None:
        """Every committed event is in `events` once, with every field as it was written."""
        expected = {
            event.id: (event.type, event.time, event.stream, event.version, event.seq, event.parent_span_id)
            for folder in list_runs(ladder)
            for event in read_events(folder.log)
        }
        rows = ask(ladder, "SELECT id, type, time_ns, stream, version, seq, parent_span_id FROM events")
        assert len(rows) == len(expected)
        assert {row[0]: row[1:] for row in rows} == expected

    def test_links_and_data_are_structured(self, ladder: Path) -> None:
        """`links` can be followed by a join, and `data` asked for its fields."""
        linked = one(
            ladder, "SELECT count(*) FROM (SELECT unnest(links) AS link FROM events) JOIN events ON id = link.id"
        )
        assert linked == one(ladder, "SELECT sum(len(links)) FROM events")
        assert (
            one(ladder, "SELECT DISTINCT data->>'stage' FROM events WHERE type = 'run.started' ORDER BY 1 LIMIT 1")
            == "loop"
        )

    def test_times_are_utc(self, ladder: Path) -> None:
        """A time comes as an aware datetime in UTC, whatever the zone of the machine."""
        first = one(ladder, "SELECT min(time) FROM events")
        assert first == datetime.fromtimestamp(START_NS / 1e9 + 2e-6, UTC)
        assert first.tzinfo is UTC

    def test_a_request_and_its_attempt(self, ladder: Path) -> None:
        """One request's row, and its attempt's, say what its events say."""
        folder = list_runs(ladder)[0]
        told = {event.type: event for event in read_events(folder.log) if event.stream == "request-7"}
        data = {kind: msgspec.json.decode(event.data) for kind, event in told.items()}
        statement = "SELECT url, name, state, wait_seconds, seconds, bytes, error, attempts, trace_id FROM requests"
        ((*request,),) = ask(ladder, f"{statement} WHERE stage = 'serial' AND number = 7")
        done = data["request.completed"]
        assert request == [
            "https://files.example.org/set/7.bin", "set/7.bin", "completed", data["request.started"]["wait_seconds"],
            done["seconds"], done["bytes"], None, 1, told["request.queued"].trace_id,
        ]  # fmt: skip
        statement = (
            "SELECT resend_count, server_address, server_port, status, response_seconds, body_seconds, bytes, state"
        )
        ((*attempt,),) = ask(ladder, f"{statement} FROM attempts WHERE run = '{folder.run}' AND number = 7")
        body, response = data["attempt.body"], data["attempt.response"]
        assert attempt == [
            0, "files.example.org", 443, 200, response["seconds"], body["seconds"], body["bytes"], "completed"
        ]  # fmt: skip

    def test_failures_say_what_happened(self, ladder: Path) -> None:
        """A failed request has its error and no bytes; a failed attempt its status where there was a response."""
        rows = ask(ladder, "SELECT error, message, bytes, seconds > 0 FROM requests WHERE state = 'failed'")
        assert rows
        assert all(error and message and size is None and took for error, message, size, took in rows)
        statuses = ask(ladder, "SELECT DISTINCT error, status FROM attempts WHERE state = 'failed'")
        assert ("ServerStatus", 503) in statuses
        assert dict(statuses).get("TimedOut") is None

    def test_samples_count_from_the_start(self, ladder: Path) -> None:
        """`elapsed_seconds` is 0 at the start of a run and its length at the end; processes are counted."""
        for run, seconds, stage in ask(ladder, "SELECT run, seconds, stage FROM runs"):
            statement = (
                f"SELECT min(elapsed_seconds), max(elapsed_seconds), max(processes) FROM samples WHERE run = '{run}'"
            )
            ((first, last, processes),) = ask(ladder, statement)
            assert 0 <= first < 0.05
            assert last == pytest.approx(seconds, rel=0.01)
            assert processes == PROFILES[stage].processes


class TestCounting:
    @pytest.mark.parametrize("stage", PROFILES)
    def test_runs_agree_with_the_fold(self, store: Path, stage: str) -> None:
        """The row of a run says what a fold over its log says: counts, bytes, memory, CPU."""
        folder = write_run(store, stage, requests=40, failure_share=0.3)
        tally = fold(folder)
        counts = "requests, completed, failed, cancelled, bytes, peak_memory_bytes, memory_kind, events"
        ((*row,),) = ask(store, f"SELECT {counts}, stage, workers, state FROM runs")
        assert row == [
            40, tally.completed, tally.failed, 0, tally.bytes, tally.peak_memory_bytes, "pss", tally.events, stage,
            PROFILES[stage].workers, "completed",
        ]  # fmt: skip
        assert one(store, "SELECT cpu_seconds FROM runs") == pytest.approx(tally.cpu_seconds)
        assert one(store, "SELECT requests_per_second * seconds FROM runs") == pytest.approx(tally.completed)

    def test_an_interrupted_run(self, store: Path) -> None:
        """What was in flight when a run was interrupted is cancelled; its attempts are unfinished."""
        write_run(store, "threads", stop_seconds=0.2)
        ((state, requests, ended, cancelled),) = ask(
            store, "SELECT state, requests, completed + failed, cancelled FROM runs"
        )
        assert state == "interrupted"
        assert cancelled == 16
        assert requests == ended + cancelled
        assert one(store, "SELECT count(*) FROM attempts WHERE state = 'unfinished'") == 16

    def test_a_killed_run_is_unfinished(self, store: Path) -> None:
        """A run without an end event is unfinished; its time is that of its last event, its requests stay started."""
        write_run(store, "threads", stop_seconds=0.2, killed=True)
        ((state, ended_at, seconds),) = ask(store, "SELECT state, ended_at, seconds FROM runs")
        assert (state, ended_at) == ("unfinished", None)
        assert 0.15 < seconds <= 0.2
        assert one(store, "SELECT count(*) FROM requests WHERE state = 'started' AND ended_at IS NULL") == 16

    @pytest.mark.parametrize("killed", [False, True])
    def test_after_a_resume_the_last_outcome_counts(self, store: Path, killed: bool) -> None:
        """A resumed run is one row: each request once, with its last outcome, and attempts of all sittings."""
        folder = write_run(store, "threads", failure_share=0.3, stop_seconds=0.2, killed=killed)
        before = fold(folder)
        resume_run(folder, failure_share=0.0)
        assert fold(folder).counts == dict.fromkeys(before.counts, 0) | {RequestState.COMPLETED: 200}
        rows = ask(store, "SELECT state, requests, completed, failed, cancelled, ended_at IS NOT NULL FROM runs")
        assert rows == [("completed", 200, 200, 0, 0, True)]
        assert one(store, "SELECT count(*) FROM requests WHERE error IS NOT NULL OR bytes IS NULL") == 0
        assert one(store, "SELECT sum(attempts) FROM requests") == 200 + before.failed + 16
        assert one(store, "SELECT count(*) FROM requests WHERE ended_at < started_at OR started_at < queued_at") == 0

    @pytest.mark.parametrize("killed", [False, True])
    def test_pauses_do_not_count(self, store: Path, killed: bool) -> None:
        """The hour between a stop and its resume is neither in the run's seconds nor in its samples' elapsed time."""
        folder = write_run(store, "threads", stop_seconds=0.2, killed=killed)
        first = one(store, "SELECT seconds FROM runs")
        resume_run(folder)
        seconds = one(store, "SELECT seconds FROM runs")
        assert first < seconds < 2
        assert one(store, "SELECT max(elapsed_seconds) FROM samples") == pytest.approx(seconds, rel=0.02)
        assert one(store, "SELECT max(epoch(time)) - min(epoch(time)) FROM samples") > 3600

    def test_the_first_result_is_by_the_run_s_own_time(self, store: Path) -> None:
        """Without a completed request there is none; a pause before the sitting that brought it does not count."""
        folder = write_run(store, "serial", requests=3, stop_seconds=0.001)
        assert one(store, "SELECT first_result_seconds FROM runs") is None
        resume_run(folder)
        assert 0 < one(store, "SELECT first_result_seconds FROM runs") < 2

    def test_metrics_are_no_spans(self, store: Path) -> None:
        """They are about many spans; a trace has none of that name."""
        run = create_run(store, stage="serial")
        with Recorder(run.log, run.run) as recorder, metrics.recorded_by(recorder):
            metrics.counter("test.sql").add(1)
        assert one(store, "SELECT count(*) FROM events WHERE type = 'metric.measured'") == 1
        assert one(store, "SELECT count(*) FROM spans") == 0

    def test_a_resume_in_progress_queues_again(self, store: Path) -> None:
        """A request that a resume has only queued again is queued; its old outcome and times are not shown."""
        folder = write_run(store, "serial", requests=1, failure_share=1.0)
        with Recorder(folder.log, folder.run, sources=SeededSources(9, START_NS + 10**12)) as recorder:
            (last,) = [event for event in read_events(folder.log) if event.type == "request.failed"]
            stream = recorder.open_stream("request-0").stream
            stream.version, stream.trace_id = last.version + 1, last.trace_id
            span = recorder.open_stream("x")
            span.stream = stream
            span.record(RequestQueued(number=0, url="http://h/0", name="0"))
        rows = ask(store, "SELECT state, started_at, ended_at, seconds, error, attempts, url FROM requests")
        assert rows == [("queued", None, None, None, None, 1, "http://h/0")]

    def test_only_the_runs_asked_for(self, ladder: Path) -> None:
        """`runs` limits every view, by names as people give them; one that is not there is an error."""
        first, second = (folder.run for folder in list_runs(ladder)[:2])
        assert ask(ladder, "SELECT run FROM runs", [second, first[-4:], first]) == [(first,), (second,)]
        assert one(ladder, "SELECT count(DISTINCT run) FROM events") == 5
        with pytest.raises(UnknownRun):
            connect(ladder, ["2020"])


class TestAnswers:
    @pytest.mark.parametrize(
        "statement",
        [
            "EXPLAIN FROM runs",
            "EXPLAIN ANALYZE FROM runs",
            "DESCRIBE runs",
            "SHOW TABLES",
            "SUMMARIZE runs",
            "VALUES (1)",
            "PIVOT runs ON stage USING sum(bytes)",
            "FROM (PIVOT runs ON stage USING sum(bytes))",
            "SELECT 1;",
        ],
    )
    def test_all_forms_of_reading(self, ladder: Path, statement: str) -> None:
        """Every statement that reads is allowed."""
        answer = query(connect(ladder), statement)
        rows = list(answer.rows())
        assert rows
        assert {len(row) for row in rows} == {len(answer.columns)}

    def test_a_store_a_run_or_its_folder(self, ladder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """`eventflow.query` takes a store, a run or a run's folder, as an object, a path or text."""
        first = list_runs(ladder)[0]
        statement = "SELECT run FROM runs ORDER BY run"
        everything = [(folder.run,) for folder in list_runs(ladder)]
        assert list(eventflow.query(ladder, statement)) == list(eventflow.query(str(ladder), statement)) == everything
        monkeypatch.chdir(first.path)
        for where in (first, first.path, str(first.path), "."):
            assert list(eventflow.query(where, statement)) == [(first.run,)]
        assert list(eventflow.query(ladder / "nothing", statement)) == []

    def test_records_are_json(self, ladder: Path) -> None:
        """`records` gives what JSON can hold: times as ISO 8601, JSON columns as values, names only once."""
        statement = """
            SELECT e.run, r.run, e.time, e.data, 'nan'::DOUBLE AS x, [e.time] AS times, 2 > 1 AS yes, 1.5 AS d
            FROM events AS e JOIN runs AS r USING (run) WHERE e.type = 'run.started' ORDER BY ALL LIMIT 1
        """
        (record,) = query(connect(ladder), statement).records()
        assert msgspec.json.decode(msgspec.json.encode(record)) == {
            "run": list_runs(ladder)[0].run, "run_1": list_runs(ladder)[0].run, "time": "2026-11-23T13:00:00.000002Z",
            "data": {"stage": "serial", "workers": 1}, "x": None, "times": ["2026-11-23T13:00:00.000002"], "yes": True,
            "d": "1.5",
        }  # fmt: skip

    def test_rows_come_piece_by_piece(self, ladder: Path) -> None:
        """Several answers of one connection may be read in turn."""
        connection = connect(ladder)
        answers = [query(connection, "SELECT seq FROM events WHERE writer <> '' ORDER BY ALL") for _ in range(2)]
        rows = [answer.rows() for answer in answers]
        assert [next(rows[0]), next(rows[1]), next(rows[0])] == [(0,), (0,), (0,)]

    def test_parquet(self, ladder: Path, tmp_path: Path) -> None:
        """A Parquet file holds the rows of the query with their types, and takes the place of the one before."""
        path = tmp_path / "it's.parquet"
        path.write_text("old")
        assert write_parquet(ladder, "SELECT run, time, links, data FROM events ORDER BY seq", path) == path
        parquet = duckdb.read_parquet(str(path))
        assert parquet.columns == ["run", "time", "links", "data"]
        assert [str(kind) for kind in parquet.types[:2]] == ["VARCHAR", "TIMESTAMP WITH TIME ZONE"]
        assert parquet.aggregate("count(*)").fetchall() == ask(ladder, "SELECT count(*) FROM events")
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("statement", ["SELECT (url || '')::INTEGER FROM requests", "DROP VIEW runs", "SELEC"])
    def test_a_failed_parquet_file_changes_nothing(self, ladder: Path, tmp_path: Path, statement: str) -> None:
        """If the query fails, the old file stays and no other is left behind."""
        path = tmp_path / "out.parquet"
        path.write_text("old")
        with pytest.raises(UsageError):
            write_parquet(ladder, statement, path)
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    def test_parquet_where_nothing_can_be_written(self, ladder: Path, tmp_path: Path) -> None:
        """A folder that is not there is a usage error."""
        with pytest.raises(UsageError, match=r"out\.parquet"):
            write_parquet(ladder, "FROM runs", tmp_path / "nowhere" / "out.parquet")


def sql_blocks() -> list[str]:
    """The fenced blocks of SQL in docs/sql.md."""
    return re.findall(r"^```sql\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


class TestDocument:
    def test_its_made_parts_are_as_they_would_be_made(self) -> None:
        """docs/sql.md describes every view as `VIEWS` does; after a change, run docs/make_pages.py."""
        made = runpy.run_path(str(DOCUMENT.parent / "make_pages.py"))["pages"]()
        assert DOCUMENT.read_text(encoding="utf-8") == made[DOCUMENT]
        assert all(f"### `{view.name}`\n\n{view.description}\n" in made[DOCUMENT] for view in VIEWS)

    def test_there_are_examples(self) -> None:
        """docs/sql.md shows queries over every view."""
        blocks = "\n".join(sql_blocks())
        assert not [view.name for view in VIEWS if not re.search(rf"\b{view.name}\b", blocks)]

    @pytest.mark.parametrize("statement", sql_blocks(), ids=lambda statement: statement.split("\n")[0][:60])
    def test_its_examples_give_rows(self, ladder: Path, statement: str) -> None:
        """Every query in docs/sql.md is accepted and finds something in a store with failures."""
        assert list(query(connect(ladder), statement).rows())


def test_an_answer_knows_its_columns_before_its_rows(ladder: Path) -> None:
    """Names and types are there before any row is computed."""
    answer: Answer = query(connect(ladder), "SELECT run, error('not yet')::BIGINT AS n FROM runs")
    assert (answer.columns, answer.types) == (("run", "n"), ("VARCHAR", "BIGINT"))
