"""What only the director sees, in SQL: a real run against servers that redirect, cut off and refuse, told twice."""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.event import StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.seal import seal_run
from eventflow.log.settled import is_settled
from eventflow.log.sql import VIEWS
from eventflow.origin_events import BreakerOpened, LimitChanged
from eventflow.recorder import Recorder, Span
from eventflow.sources import SeededSources
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptStarted,
    ProcessExited,
    ProcessStarted,
    RequestCompleted,
    RequestDelayed,
    RequestQueued,
    RequestStarted,
    RunStarted,
    StageStarted,
)
from tests.asking import ask, one
from tests.directing import Sitting
from tests.hostile.answering import STALE
from tests.hostile.going_on import GOING_ON
from tests.hostile.server import BODY, Case, Fails, Stored, answer, origins, redirect
from tests.synthetic_log import START_NS

BUSY = answer(b"", "Retry-After: 0", status="503 Busy")
CASES = {
    "plain": Case("§9.3.1", Stored(), ((answer(),),)),
    "moved": Case("§15.4.3", Stored(), ((redirect("/there"),),), more={"/there": (answer(),)}),
    "away": Case("§15.4.8", Stored(b"/x"), ((redirect("http://127.0.0.1:{plain}/x", "307 Away"),),)),
    "cut": GOING_ON["rest"],
    "busy": Case("§10.2.3", Stored(), ((BUSY,), (answer(),))),
    "gone": Case("§15.5.5", Fails("ClientStatus"), ((answer(b"", status="404 Not Found"),),)),
    "stale": STALE["stale-closed"],
}
ENDS = ("attempt.completed", "attempt.redirected", "attempt.failed")
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def sitting(tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A run of all cases, one after the other, and then a second request to the one whose kept connection dies."""
    folder = tmp_path_factory.mktemp("director")
    with origins(CASES, {}) as served:
        lines = [f"http://127.0.0.1:{served[name].port}{case.path}\t{name}" for name, case in CASES.items()]
        lines.append(f"http://127.0.0.1:{served['stale'].port}/next\tstale.next")
        made = Sitting(folder, lines, concurrency=1, in_flight_max=1, retries=2)
        made.direct()
    return made


@pytest.fixture
def store(sitting: Sitting) -> Path:
    """Where the run is."""
    return sitting.run.path.parent


def stories(run: RunFolder) -> dict[str, list[tuple[StoredEvent, dict[str, Any]]]]:
    """The events of each story, in order, with what they say."""
    found: dict[str, list[tuple[StoredEvent, dict[str, Any]]]] = defaultdict(list)
    for event in sorted(read_events(run.log), key=lambda event: (event.stream, event.version)):
        found[event.stream].append((event, msgspec.json.decode(event.data, type=dict[str, Any])))
    return found


def retold_attempts(run: RunFolder) -> Iterator[dict[str, Any]]:
    """Each attempt, told by plain Python."""
    for stream, events in stories(run).items():
        attempts: dict[str, dict[str, Any]] = {}
        for event, data in events:
            belongs = event.parent_span_id if event.type in ("attempt.body", "connection.opened") else event.span_id
            if event.type == "attempt.started":
                attempts[event.span_id] = {"stream": stream, "number": int(stream[8:]), "state": "unfinished", **data}
            attempt = attempts.get(belongs or "", {})
            if event.type in ("connection.taken", "connection.opened"):
                attempt |= {"connection": data["connection"], "is_kept": event.type == "connection.taken"}
                attempt |= {name: data.get(name) for name in ("dns_seconds", "connect_seconds", "tls_seconds")}
            elif event.type == "attempt.sent":
                attempt |= {"sent_seconds": data["seconds"], "range_start": data.get("range_start")}
            elif event.type == "attempt.response":
                attempt |= {"status": data["status"], "response_seconds": data["seconds"]}
            elif event.type == "attempt.body":
                attempt |= {"body_seconds": data["seconds"], "bytes": data["bytes"]}
            elif event.type in ENDS:
                attempt |= {"state": event.type[8:], "seconds": data["seconds"], "ended_ns": event.time}
                attempt |= {
                    "error": data.get("error"),
                    "message": data.get("message"),
                    "redirected_to": data.get("url"),
                }
        yield from attempts.values()


COLUMNS = (
    "number", "state", "connection", "is_kept", "dns_seconds", "connect_seconds", "tls_seconds", "sent_seconds",
    "range_start", "status", "response_seconds", "body_seconds", "bytes", "seconds", "error", "message",
    "redirected_to",
)  # fmt: skip


def test_attempts_are_what_their_events_say(sitting: Sitting, store: Path) -> None:
    """Each attempt's connection, times, range, status and outcome, one row for each."""
    expected = [
        (*(attempt.get(name) for name in COLUMNS), attempt.get("resend_count", 0), attempt["ended_ns"] // 1000)
        for attempt in retold_attempts(sitting.run)
    ]
    rows = ask(store, f"SELECT {', '.join(COLUMNS)}, resend_count, epoch_us(ended_at) FROM attempts")
    assert len(rows) == 12
    assert sorted(rows, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", [("completed", 200, None, len(BODY), None)]),
        ("moved", [("redirected", 302, None, None, None), ("completed", 200, None, len(BODY), None)]),
        ("away", [("redirected", 307, None, None, None), ("completed", 200, None, 2, None)]),
        ("cut", [("failed", 200, None, None, "ShortBody"), ("completed", 206, 400_000, 200_000, None)]),
        ("busy", [("failed", 503, None, None, "ServerStatus"), ("completed", 200, None, len(BODY), None)]),
        ("gone", [("failed", 404, None, None, "ClientStatus")]),
    ],
)
def test_every_attempt_ends_as_it_did(name: str, expected: list[tuple[Any, ...]], store: Path) -> None:
    """Redirected, failed and tried again, or answered with the rest of a part: in that order."""
    columns = "a.state, a.status, a.range_start, a.bytes, a.error"
    statement = f"SELECT {columns} FROM attempts AS a JOIN requests USING (run, number) WHERE name = '{name}'"
    assert ask(store, f"{statement} ORDER BY resend_count") == expected


def test_a_dead_connection_that_was_kept_is_replaced_in_one_attempt(store: Path) -> None:
    """The attempt has the new connection and what it took to open it."""
    of = "FROM attempts JOIN requests USING (run, number) WHERE name"
    ((before, *_),) = ask(store, f"SELECT connection {of} = 'stale'")
    ((now, is_kept, took, state),) = ask(
        store, f"SELECT connection, is_kept, attempts.connect_seconds, attempts.state {of} = 'stale.next'"
    )
    assert (is_kept, state) == (False, "completed")
    assert before != now
    assert took > 0


def test_requests_add_up_their_attempts(sitting: Sitting, store: Path) -> None:
    """Attempts, redirects, waits, the times of connections, and the whole file's size, also of one in two parts."""
    expected = {}
    for stream, events in stories(sitting.run).items():
        if not stream.startswith("request-"):
            continue
        kinds = [event.type for event, _ in events]
        opened = [data for event, data in events if event.type == "connection.opened"]
        expected[int(stream[8:])] = (
            kinds.count("attempt.started"),
            kinds.count("attempt.redirected"),
            sum(data["seconds"] for event, data in events if event.type == "request.delayed"),
            sum(data["dns_seconds"] + data["connect_seconds"] + data["tls_seconds"] for data in opened)
            if opened
            else None,
            next((data["bytes"] for event, data in events if event.type == "request.completed"), None),
        )
    columns = "attempts, redirects, delayed_seconds, connect_seconds, bytes"
    rows = {row[0]: row[1:] for row in ask(store, f"SELECT number, {columns} FROM requests")}
    assert rows == {number: pytest.approx(row) for number, row in expected.items()}
    assert one(store, "SELECT bytes FROM requests WHERE name = 'cut'") == 600_000
    assert one(store, "SELECT sum(delayed_seconds) FROM requests") > 0


def test_the_spans_of_a_request_are_a_tree(store: Path) -> None:
    """One root each, every other span lies within its parent, each has an end, and connections are theirs."""
    spans = ask(
        store,
        "SELECT stream, span_id, parent_span_id, name, state, epoch_us(started_at), epoch_us(ended_at), seconds "
        "FROM spans WHERE number IS NOT NULL",
    )
    by_id = {span[1]: span for span in spans}
    parents = {"request": None, "queue": "request", "attempt": "request", "connect": "attempt", "body": "attempt"}
    parents |= {"verify": "request", "store": "request"}
    for stream, _, parent_id, name, state, started, ended, seconds in spans:
        parent = by_id[parent_id] if parent_id is not None else None
        assert (parent[3] if parent else None) == parents[name]
        assert state in ("completed", "redirected", "failed")
        assert seconds is not None
        if parent is not None:
            assert parent[0] == stream
            assert parent[5] - 1000 <= started <= ended <= parent[6]
    assert sum(span[3] == "request" for span in spans) == len(CASES) + 1
    assert {span[3] for span in spans} == set(parents)
    connects = [(span[7], (span[6] - span[5]) / 1e6) for span in spans if span[3] == "connect"]
    assert all(took == pytest.approx(lasted, abs=3e-6) for took, lasted in connects)


def test_origins_add_up_their_attempts(sitting: Sitting, store: Path) -> None:
    """For each host and port: requests, attempts by outcome, tries again, bytes, connections and limit."""
    expected: dict[int, list[Any]] = defaultdict(lambda: [set(), 0, 0, 0, 0, 0, 0, 0])
    failed_before: set[str] = set()
    for attempt in retold_attempts(sitting.run):
        row = expected[attempt["server_port"]]
        row[0].add(attempt["stream"])
        row[1] += 1
        row[("completed", "redirected", "failed").index(attempt["state"]) + 2] += 1
        row[5] += attempt["stream"] in failed_before
        row[6] += attempt.get("bytes") or 0
        row[7] += not attempt["is_kept"]
        (failed_before.add if attempt["state"] == "failed" else failed_before.discard)(attempt["stream"])
    columns = "requests, attempts, completed, redirected, failed, retries, bytes, connections"
    rows = ask(store, f"SELECT server_port, {columns}, server_address, limit_min, limit_max, limit_last FROM origins")
    assert {port: list(row) for port, *row in rows} == {
        port: [len(streams), *counts, "127.0.0.1", 1, 1, 1] for port, (streams, *counts) in expected.items()
    }
    assert one(store, "SELECT sum(retries) FROM origins") == 2


def test_sealed_it_says_the_same(sitting: Sitting, tmp_path: Path) -> None:
    """Every view of such a run is the same from the kept files as from the events."""
    store = tmp_path / "store"
    shutil.copytree(sitting.run.path, store / sitting.run.run)
    before = {view.name: sorted(map(repr, ask(store, f"FROM {view.name}"))) for view in VIEWS}
    folder = RunFolder(store / sitting.run.run)
    assert list(seal_run(folder))
    assert is_settled(folder)
    for view, rows in before.items():
        assert sorted(map(repr, ask(store, f"FROM {view}"))) == rows, view


def test_two_schemes_of_a_host_are_two_origins(tmp_path: Path) -> None:
    """Each has a story of its own: no two events of a run share a place."""
    sitting = Sitting(tmp_path, ["http://127.0.0.1/a", "https://127.0.0.1/a\tb"], retries=0, timeout_s=1.0)
    sitting.direct()
    store = sitting.run.path.parent
    assert one(store, "SELECT count(DISTINCT stream) FROM events WHERE starts_with(stream, 'origin-')") == 2
    assert one(store, "SELECT count(*) - count(DISTINCT (stream, version)) FROM events") == 0
    assert ask(store, "SELECT server_port, attempts, limit_last > 0 FROM origins ORDER BY 1") == [
        (80, 1, True),
        (443, 1, True),
    ]


# ------------------------------------------------------------------------------------------------------ as it is told


def told(store: Path, stage: str = "director") -> Recorder:
    """The recorder of a new run."""
    folder = create_run(store, stage=stage)
    return Recorder(folder.log, folder.run, sources=SeededSources(1, START_NS))


def begin(recorder: Recorder) -> Span:
    """A request that failed once and waits for its next try."""
    root = recorder.open_stream("request-0")
    root.record(RequestQueued(number=0, url="http://h/a", name="a"))
    root.child().record(RequestStarted(wait_seconds=0.5))
    attempt = root.child()
    attempt.record(AttemptStarted(server_address="h", server_port=80))
    attempt.record(AttemptFailed(error="TimedOut", message="nothing arrived", seconds=0.25))
    root.record(RequestDelayed(seconds=0.75, reason="back-off"))
    return root


def test_a_request_that_is_put_off_is_under_way(tmp_path: Path) -> None:
    """It is `started` and has no end, however long it has to wait."""
    with told(tmp_path) as recorder:
        begin(recorder)
    columns = "state, ended_at, seconds, attempts, redirects, delayed_seconds, connect_seconds"
    assert ask(tmp_path, f"SELECT {columns} FROM requests") == [("started", None, None, 1, 0, 0.75, None)]
    assert ask(tmp_path, "SELECT name, state, seconds FROM spans ORDER BY started_at DESC LIMIT 2") == [
        ("attempt", "failed", 0.25),
        ("request", "unfinished", None),
    ]


def test_waits_of_all_sittings_count(tmp_path: Path) -> None:
    """As attempts do: what was waited before a resume was waited."""
    with told(tmp_path) as recorder:
        root = begin(recorder)
        root.record(RequestQueued(number=0, url="http://h/a", name="a"))
        root.child().record(RequestStarted(wait_seconds=0.5))
        root.record(RequestDelayed(seconds=1.25, reason="back-off"))
        root.record(RequestCompleted(name="a", bytes=1, seconds=2.0))
    assert ask(tmp_path, "SELECT state, seconds, delayed_seconds FROM requests") == [("completed", 2.0, 2.0)]


def test_an_origin_lasts_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    """For how long it will be left alone is no time that has passed."""
    with told(tmp_path) as recorder:
        root = begin(recorder)
        origin = recorder.open_stream("origin-http://h-1")
        for limit in (8, 4, 6):
            origin.record(LimitChanged(origin="http://h", limit=limit, in_flight=1))
        origin.record(BreakerOpened(origin="http://h", seconds=30.0))
        attempt = root.child()
        attempt.record(AttemptStarted(server_address="::1", server_port=8080, resend_count=1))
        recorder.open_stream("origin-http://[::1]:8080-1").record(
            LimitChanged(origin="http://[::1]:8080", limit=2, in_flight=1)
        )
    rows = ask(tmp_path, "SELECT name, state, seconds, epoch(ended_at - started_at) FROM spans WHERE name = 'origin'")
    assert [row[:3] for row in rows] == [("origin", "completed", None)] * 2
    assert max(row[3] for row in rows) < 1
    columns = (
        "server_address, server_port, attempts, failed, retries, limit_min, limit_max, limit_last, breaker_openings"
    )
    assert ask(tmp_path, f"SELECT {columns} FROM origins ORDER BY server_port") == [
        ("h", 80, 1, 1, 0, 4, 8, 6, 1),
        ("::1", 8080, 1, 0, 1, 2, 2, 2, 0),
    ]


def test_the_exit_of_a_worker_ends_the_last_one_of_its_number(tmp_path: Path) -> None:
    """In a container a resumed run gives its workers the same numbers; one that was killed stays unfinished."""
    with told(tmp_path, "processes") as recorder:
        root = recorder.open_stream("run")
        stage = root.child()
        for name, code in (("process-a", None), ("process-b", 0), ("process-c", 9)):
            root.record(RunStarted(stage="processes", workers=1))
            stage.record(StageStarted(stage="processes", workers=1))
            recorder.open_stream(name).record(ProcessStarted(pid=7, role="worker"))
            if code is not None:
                stage.record(ProcessExited(pid=7, exit_code=code, seconds=1.5))
    assert ask(tmp_path, "SELECT stream, state, seconds FROM spans WHERE name = 'process' ORDER BY stream") == [
        ("process-a", "unfinished", None),
        ("process-b", "completed", 1.5),
        ("process-c", "failed", 1.5),
    ]
