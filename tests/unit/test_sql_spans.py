"""The views that follow from the events whatever their types are: spans, links, operations."""

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from eventflow.event import Payload, StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder, Span
from eventflow.sources import SeededSources
from eventflow.vocabulary import ProcessExited, ProcessStarted, RunStarted, StageStarted
from tests.asking import ask, one
from tests.synthetic_log import START_NS, resume_run, write_run

NAMES = {
    "request.queued": "request",
    "request.started": "queue",
    "attempt.started": "attempt",
    "attempt.body": "body",
    "file.verified": "verify",
    "file.stored": "store",
    "run.started": "run",
    "stage.started": "stage",
}


class OperationQueued(Payload, frozen=True, kw_only=True):
    """An operation's inputs are there."""

    TYPE: ClassVar[str] = "operation.queued"


class OperationStarted(Payload, frozen=True, kw_only=True):
    """An engine took it."""

    TYPE: ClassVar[str] = "operation.started"
    wait_seconds: float
    engine: str


class OperationCompleted(Payload, frozen=True, kw_only=True):
    """It gave its output."""

    TYPE: ClassVar[str] = "operation.completed"
    seconds: float


class OperationFailed(Payload, frozen=True, kw_only=True):
    """It gave none."""

    TYPE: ClassVar[str] = "operation.failed"
    seconds: float
    error: str
    message: str


class FencePainted(Payload, frozen=True, kw_only=True):
    """Something that eventflow does not know."""

    TYPE: ClassVar[str] = "fence.painted"
    seconds: float


def events_of_spans(folder: RunFolder) -> dict[str, list[StoredEvent]]:
    """The events of each span, in the order of its story. What is measured belongs to none."""
    spans: dict[str, list[StoredEvent]] = defaultdict(list)
    for event in sorted(read_events(folder.log), key=lambda event: (event.stream, event.version)):
        if event.type != "metric.measured":
            spans[event.span_id].append(event)
    return spans


def payload(event: StoredEvent) -> dict[str, Any]:
    """What the event says."""
    return msgspec.json.decode(event.data, type=dict[str, Any])


def at(time_ns: int) -> datetime:
    """A time of the log, as SQL gives it: to the microsecond."""
    return datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with failures that was interrupted with requests in flight."""
    return write_run(tmp_path_factory.mktemp("stopped") / "store", "threads", failure_share=0.3, stop_seconds=0.3)


class TestSpans:
    def test_every_span_is_there_with_its_name(self, stopped: RunFolder) -> None:
        """Each span of the log is one row: named after its first event, with its parent and its number of events."""
        expected = {
            (span, events[0].parent_span_id, NAMES[events[0].type], events[0].stream, len(events))
            for span, events in events_of_spans(stopped).items()
        }
        rows = ask(stopped.path.parent, "SELECT span_id, parent_span_id, name, stream, events FROM spans")
        assert len(rows) == len(expected) > 100
        assert set(rows) == expected

    def test_times_and_outcomes(self, stopped: RunFolder) -> None:
        """A span ends with its last event, which says how long it took, how it went and why."""
        outcomes = ("completed", "failed", "cancelled", "interrupted")
        expected = {}
        for span, events in events_of_spans(stopped).items():
            own = [event for event in events if not event.type.startswith("process.")]
            first, last, verb = own[0], own[-1], own[-1].type.split(".")[1]
            if NAMES[first.type] in {"queue", "body", "verify", "store"}:
                verb = "completed"
            row: tuple[object, ...] = (None, None, "unfinished", None)
            if verb in outcomes:
                data = payload(last)
                seconds = data.get("seconds", data.get("wait_seconds"))
                row = (at(last.time), seconds, verb, data.get("error"))
            expected[span] = row
        rows = ask(stopped.path.parent, "SELECT span_id, ended_at, seconds, state, error FROM spans")
        assert {span: tuple(row) for span, *row in rows} == expected
        assert {row[2] for row in expected.values()} == {*outcomes, "unfinished"}

    def test_a_span_begins_with_its_first_event_or_as_long_before_its_end_as_it_took(self, stopped: RunFolder) -> None:
        """What was told when it was over began its seconds earlier; all else with its first event."""
        expected = {}
        for span, events in events_of_spans(stopped).items():
            data = payload(events[0])
            took = data.get("seconds") or data.get("wait_seconds") or 0
            expected[span] = (events[0].time - took * 1e9) / 1e9
        rows = dict(ask(stopped.path.parent, "SELECT span_id, epoch(started_at) FROM spans"))
        assert rows == pytest.approx(expected, abs=2e-6)

    def test_a_resumed_request_goes_on(self, store: Path) -> None:
        """After a resume the last outcome of a request's and the run's span counts, and the first beginning."""
        folder = write_run(store, "threads", failure_share=0.3, stop_seconds=0.2)
        begun = one(store, "SELECT min(started_at) FROM spans WHERE name = 'run'")
        resume_run(folder, failure_share=0.0)
        statement = "SELECT name, state, count(*) FROM spans WHERE name IN ('run', 'request') GROUP BY ALL ORDER BY 1"
        assert ask(store, statement) == [("request", "completed", 200), ("run", "completed", 1)]
        assert one(store, "SELECT started_at FROM spans WHERE name = 'run'") == begun

    def test_a_process_that_exits_ends_neither_stage_nor_run(self, store: Path) -> None:
        """What processes do is told in the spans of others and ends only their own."""
        folder = create_run(store, stage="processes")
        with Recorder(folder.log, folder.run, sources=SeededSources(1, START_NS)) as recorder:
            root = recorder.open_stream("run")
            root.record(RunStarted(stage="processes", workers=2))
            root.record(ProcessStarted(pid=1, role="main"))
            stage = root.child()
            stage.record(StageStarted(stage="processes", workers=2))
            recorder.open_stream("process-a").record(ProcessStarted(pid=2, role="worker"))
            stage.record(ProcessExited(pid=2, exit_code=0, seconds=1.5))
            for code in (0, 3):
                program = recorder.open_stream(f"request-{code}").child()
                program.record(ProcessStarted(pid=3, role="program", program="gzip"))
                program.record(ProcessExited(pid=3, exit_code=code, seconds=0.5))
        rows = ask(store, "SELECT name, stream, number, state, seconds FROM spans ORDER BY started_at")
        assert rows == [
            ("run", "run", None, "unfinished", None),
            ("stage", "run", None, "unfinished", None),
            ("process", "process-a", None, "completed", 1.5),
            ("program", "request-0", 0, "completed", 0.5),
            ("program", "request-3", 3, "failed", 0.5),
        ]

    def test_events_of_your_own(self, store: Path) -> None:
        """A type that eventflow does not know makes a span as well, named by what is before the dot."""
        folder = create_run(store, stage="painting")
        with Recorder(folder.log, folder.run, sources=SeededSources(1, START_NS)) as recorder:
            recorder.open_stream("fence-1").record(FencePainted(seconds=2.5))
        statement = "SELECT name, stream, state, seconds, epoch(ended_at - started_at), events FROM spans"
        assert ask(store, statement) == [("fence", "fence-1", "completed", 2.5, 2.5, 1)]


class TestLinks:
    def test_every_link_is_a_row(self, stopped: RunFolder) -> None:
        """Each prev pointer of each event is one row, and leads to an event of the same run."""
        store = stopped.path.parent
        expected = {
            (event.run, event.id, event.type, event.stream, event.version, link.id, link.trace_id, link.span_id)
            for event in read_events(stopped.log)
            for link in event.links
        }
        rows = ask(store, "FROM links")
        assert len(rows) == len(expected) > 100
        assert set(rows) == expected
        assert (
            one(store, "SELECT count(*) FROM links ANTI JOIN events ON id = cause_id AND links.run = events.run") == 0
        )


def record_operation(recorder: Recorder, name: str, *payloads: Payload) -> Span:
    """The story of one operation."""
    span = recorder.open_stream(name)
    for each in payloads:
        span.record(each)
    return span


class TestOperations:
    def test_what_an_operation_has_come_to(self, store: Path) -> None:
        """An operation's row says its name, place, engine and outcome, with its times; what nobody said is NULL."""
        folder = create_run(store, stage="dataflow")
        started = OperationStarted(wait_seconds=0.25, engine="process")
        failed = OperationFailed(seconds=1.0, error="TimedOut", message="too slow")
        with Recorder(folder.log, folder.run, sources=SeededSources(1, START_NS)) as recorder:
            span = record_operation(
                recorder, "operation-make-thumbnail-7", OperationQueued(), started, OperationCompleted(seconds=0.5)
            )
            record_operation(recorder, "operation-digest-0", started, failed)
            record_operation(recorder, "operation-digest-1", OperationQueued(), started)
            record_operation(recorder, "operation-digest-2", OperationQueued())
            record_operation(recorder, "operation-digest-3", OperationQueued(), started, failed, OperationQueued())
            record_operation(recorder, "of-another-name", OperationQueued())
        columns = "stream, operation, number, state, wait_seconds, seconds, engine, error, message"
        rows = ask(store, f"SELECT {columns} FROM operations ORDER BY stream")
        assert rows == [
            ("of-another-name", None, None, "queued", None, None, None, None, None),
            ("operation-digest-0", "digest", 0, "failed", 0.25, 1.0, "process", "TimedOut", "too slow"),
            ("operation-digest-1", "digest", 1, "started", 0.25, None, "process", None, None),
            ("operation-digest-2", "digest", 2, "queued", None, None, None, None, None),
            ("operation-digest-3", "digest", 3, "queued", None, None, "process", None, None),
            ("operation-make-thumbnail-7", "make-thumbnail", 7, "completed", 0.25, 0.5, "process", None, None),
        ]
        statement = "SELECT queued_at, started_at, ended_at, trace_id FROM operations WHERE number = 7"
        times = [at(event.time) for event in read_events(folder.log) if event.stream == span.stream.name]
        assert ask(store, statement) == [(*times, span.stream.trace_id)]

    def test_an_operation_is_a_span(self, store: Path) -> None:
        """The spans of operations need no rule of their own."""
        folder = create_run(store, stage="dataflow")
        started = OperationStarted(wait_seconds=0.25, engine="process")
        with Recorder(folder.log, folder.run, sources=SeededSources(1, START_NS)) as recorder:
            record_operation(recorder, "operation-a-0", OperationQueued(), started, OperationCompleted(seconds=0.5))
            record_operation(recorder, "operation-a-1", started)
        rows = ask(store, "SELECT name, stream, state, seconds, events FROM spans ORDER BY stream")
        assert rows == [
            ("operation", "operation-a-0", "completed", 0.5, 3),
            ("operation", "operation-a-1", "unfinished", None, 1),
        ]
