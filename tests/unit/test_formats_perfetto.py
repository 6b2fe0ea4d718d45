"""Perfetto: by the published schema every span is a slice where it belongs, and the counters say what was when."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

from eventflow.event import Event, Payload, StoredEvent
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, RunInfo
from eventflow.measuring_events import ProcessReading, ProcessSampled
from eventflow.origin_events import LimitChanged
from eventflow.vocabulary import (
    ProcessStarted,
    RequestCompleted,
    RequestFailed,
    RequestQueued,
    RequestStarted,
    RunStarted,
)
from instrumentation.formats import as_perfetto
from instrumentation.formats.protobuf import double, fixed, integer, message, text, varint
from instrumentation.traces import FinishedSpan, SpanEvent, SpanLink, read_spans
from tests.directed_log import write_directed_run
from tests.support.perfetto_trace import Trace
from tests.support.spans import MILLISECOND, START_NS, TRACE, child, span
from tests.synthetic_log import resume_run, write_run

INFO = RunInfo(run="20261123-090000-5eed", stage="director", created="2026-11-23T09:00:00+00:00")


def event(at_ms: int, payload: Payload, stream: str = "run", writer: str = "w1") -> StoredEvent:
    """An event of the run."""
    data = msgspec.Raw(msgspec.json.encode(payload))
    time_ns = START_NS + at_ms * MILLISECOND
    return Event("e", payload.TYPE, time_ns, INFO.run, stream, 0, writer, 0, TRACE, "b" * 16, data)


BEGINNING = (
    event(0, RunStarted(stage="director", workers=1)),
    event(0, ProcessStarted(pid=17, role="main")),
)


def drawn(spans: Iterable[FinishedSpan], events: Sequence[StoredEvent] = BEGINNING) -> Trace:
    """The trace of some spans and events."""
    return Trace(b"".join(as_perfetto(INFO, events, spans)))


def shown(trace: Trace) -> list[tuple[str, str, int, int]]:
    """Its slices: where, what, from when to when in milliseconds."""
    return [
        (one.track, one.name, (one.start_ns - START_NS) // MILLISECOND, (one.end_ns - START_NS) // MILLISECOND)
        for one in sorted(trace.slices, key=lambda one: (one.track, one.start_ns, one.depth))
    ]


def request(number: int, start_ms: int, end_ms: int, connection: str = "") -> list[FinishedSpan]:
    """The spans of a request that waited for 2 ms, in the order in which they end."""
    stream, root = f"request-{number}", 100 * number
    story = {"stream": stream, "trace_id": f"{number:032x}"}
    attributes = {"eventflow.connection.id": connection, "server.address": "a", "server.port": 80} if connection else {}
    links = (SpanLink(f"{number:032x}", f"{root + 2:016x}", "e"),)
    return [
        child(root + 1, "queue", start_ms, start_ms + 2, of=root, **story),
        child(root + 2, "attempt", start_ms + 3, end_ms - 2, of=root, name="GET", attributes=attributes, **story),
        child(root + 3, "store", end_ms - 1, end_ms, of=root, links=links, **story),
        span(root, start_ms, end_ms, **story),
    ]


def test_lanes_of_requests() -> None:
    """Requests at once are beside each other, the next one takes the lane that is free; each begins after its wait."""
    spans = sorted([*request(1, 0, 20), *request(2, 5, 30), *request(3, 25, 40)], key=lambda one: one.end_ns)
    trace = drawn(spans)
    assert shown(trace) == [
        ("director 17/requests 1", "request-1", 2, 20),
        ("director 17/requests 1", "GET", 3, 18),
        ("director 17/requests 1", "store", 19, 20),
        ("director 17/requests 1", "request-3", 27, 40),
        ("director 17/requests 1", "GET", 28, 38),
        ("director 17/requests 1", "store", 39, 40),
        ("director 17/requests 2", "request-2", 7, 30),
        ("director 17/requests 2", "GET", 8, 28),
        ("director 17/requests 2", "store", 29, 30),
    ]
    assert [one.depth for one in trace.slices if one.category == "request"] == [0, 0, 0]
    root = next(one for one in trace.slices if one.name == "request-1")
    assert root.said == {
        "state": "completed",
        "eventflow.queue.seconds": 0.002,
        "span_id": f"{100:016x}",
        "trace_id": f"{1:032x}",
    }
    assert trace.arrows == [("GET", "store")] * 3


def test_connections() -> None:
    """Who had a connection is on its track, one after the other, with an arrow from each to the next."""
    first, second = request(1, 0, 20, "c-1"), request(2, 20, 40, "c-1")
    handed = SpanLink(first[1].trace_id, first[1].span_id, "e")
    second[1] = msgspec.structs.replace(second[1], links=(handed,))
    trace = drawn([*first, *second, *request(3, 5, 45, "c-2")])
    assert [one for one in shown(trace) if "connection" in one[0]] == [
        ("director 17/connection 1 a:80", "request-1", 3, 18),
        ("director 17/connection 1 a:80", "request-2", 23, 38),
        ("director 17/connection 2 a:80", "request-3", 8, 43),
    ]
    assert Counter(trace.arrows) == {("GET", "store"): 3, ("GET", "GET"): 1}


def test_a_bounded_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many, a new one takes the track of the one that was idle longest."""
    monkeypatch.setattr("instrumentation.formats.perfetto.CONNECTIONS_MAX", 2)
    spans = [one for number in range(1, 5) for one in request(number, 50 * number, 50 * number + 20, f"c-{number % 3}")]
    trace = drawn(spans)
    used = [one for one in trace.slices if one.category == "connection"]
    assert [(one.track[-6], one.name, one.said["eventflow.connection.id"]) for one in used] == [
        ("1", "request-1", "c-1"),
        ("2", "request-2", "c-2"),
        ("1", "request-3", "c-0"),
        ("2", "request-4", "c-1"),
    ]


def test_counters() -> None:
    """Requests by state, memory of all and of each process, the limit of an origin: each when it changed."""
    readings = (ProcessReading(17, 40, 0.0, 1), ProcessReading(18, 50, 0.0, 1), ProcessReading(99, 5, 0.0, 1))
    sample = ProcessSampled(
        memory_bytes=95, memory_kind="pss", cpu_seconds=0.0, processes=readings, sampling_seconds=0.0
    )
    trace = drawn(
        [],
        [
            *BEGINNING,
            event(1, ProcessStarted(pid=18, role="worker"), "process-w2", "w2"),
            event(1, ProcessStarted(pid=99, role="program", program="curl"), "request-0"),
            event(2, RequestQueued(number=0, url="http://a/", name="a"), "request-0"),
            event(2, RequestQueued(number=1, url="http://a/", name="b"), "request-1"),
            event(3, RequestStarted(wait_seconds=0.001), "request-0"),
            event(4, sample),
            event(5, LimitChanged(origin="http://a", limit=8, in_flight=4), "origin-w2", "w2"),
            event(6, RequestCompleted(name="a", bytes=1, seconds=0.003), "request-0"),
            event(7, RequestFailed(error="TimedOut", message="", seconds=0.0), "request-1"),
        ],
    )
    run = "run 20261123-090000-5eed (director)"
    found = {
        track: [((at - START_NS) // MILLISECOND, value) for at, value in values]
        for track, values in trace.counters.items()
    }
    assert found == {
        f"{run}/in flight": [(0, 0), (3, 1), (6, 0)],
        f"{run}/waiting": [(0, 0), (2, 1), (2, 2), (3, 1), (7, 0)],
        f"{run}/completed": [(0, 0), (6, 1)],
        f"{run}/failed": [(0, 0), (7, 1)],
        f"{run}/cancelled": [(0, 0)],
        f"{run}/memory (pss)": [(4, 95)],
        "director 17/memory": [(4, 40)],
        "director worker 18/memory": [(4, 50)],
        f"{run}/memory of other processes": [(4, 5)],
        "director worker 18/limit http://a": [(5, 8)],
    }
    assert {track for track, unit in trace.units.items() if unit == schema.CounterDescriptor.UNIT_SIZE_BYTES} == {
        track for track in found if "memory" in track
    }


def test_what_was_in_flight_when_the_run_was_killed() -> None:
    """It is not any more when the run goes on."""
    events = [
        *BEGINNING,
        event(1, RequestQueued(number=0, url="http://a/", name="a"), "request-0"),
        event(2, RequestStarted(wait_seconds=0.001), "request-0"),
        event(9, RunStarted(stage="director", workers=1, resumed=True), writer="w2"),
    ]
    values = drawn([], events).counters["run 20261123-090000-5eed (director)/in flight"]
    assert [value for _, value in values] == [0, 1, 0]


def test_a_process_id_that_is_given_again() -> None:
    """Perfetto knows a process by its id, so the second one with it is a track of its own."""
    again = event(9, ProcessStarted(pid=17, role="main"), writer="w2")
    trace = drawn([*request(1, 0, 8), *request(2, 9, 20)], [*BEGINNING, again])
    assert {"director 17", "director 17 (w2)"} <= set(trace.tracks)
    untold = drawn([span(1, 0, 1, writer="w9")])
    assert "process w9/requests 1" in untold.tracks


def test_moments_and_what_does_not_nest() -> None:
    """Moments are where they were; a step that overlaps another is beside it."""
    root = span(1, 0, 10, events=(SpanEvent("request.delayed", START_NS + 4 * MILLISECOND, {"reason": "robots"}),))
    trace = drawn([child(2, "attempt", 1, 6), child(3, "verify", 5, 8), root])
    assert [(one.track, one.name, one.said) for one in trace.moments] == [
        ("director 17/requests 1", "request.delayed", {"reason": "robots"})
    ]
    assert shown(trace) == [
        ("director 17/requests 1", "request-0", 0, 10),
        ("director 17/requests 1", "attempt", 1, 6),
        ("director 17/requests 1/requests 1, 2", "verify", 5, 8),
    ]


def test_what_was_never_begun() -> None:
    """A request that no worker took when the run ended is not drawn; one that failed at once is."""
    waiting = [child(2, "queue", 0, 5), span(1, 0, 5, state="interrupted")]
    assert len(drawn(waiting).slices) == 1
    assert drawn([span(1, 0, 5, state="interrupted")]).slices == []
    assert len(drawn([span(1, 0, 0, state="failed", message="no URL")]).slices) == 1


def test_steps_of_a_request_that_goes_on() -> None:
    """What has ended of it is there, though its root has not."""
    assert shown(drawn(request(1, 0, 20)[:2])) == [("director 17/requests 1", "GET", 3, 18)]


VALUES = st.text(max_size=5) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
SPANS = st.builds(
    span,
    st.integers(1, 2**63),
    st.integers(0, 9),
    st.integers(9, 20),
    stream=st.sampled_from(["request-1", "request-2", "run", "origin-a"]),
    step=st.sampled_from(["request", "attempt", "own", "run"]),
    writer=st.sampled_from(["w1", "w2"]),
    parent_span_id=st.none() | st.just("1" * 16),
    state=st.sampled_from(["completed", "failed", "cancelled", "interrupted"]),
    name=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    attributes=st.dictionaries(st.text(min_size=1, max_size=3), VALUES | st.tuples(st.text(max_size=3)), max_size=3),
)


@given(st.lists(SPANS, max_size=12, unique_by=lambda one: one.span_id))
def test_whatever_there_is_can_be_read(spans: list[FinishedSpan]) -> None:
    """Every span that began is one slice, with its times and all that it says."""
    found = {str(one.said["span_id"]): one for one in drawn(spans).slices}
    for one in spans:
        if one.span_id not in found:  # a request that nobody took
            assert (one.step, one.state != "failed") == ("request", True)
            continue
        piece = found[one.span_id]
        assert (piece.category, piece.start_ns, piece.end_ns) == (one.step, one.start_ns, one.end_ns)
        assert piece.said["state"] == one.state
        for name, value in one.attributes.items():
            if name not in {"state", "message", "span_id", "trace_id"}:
                assert piece.said[name] == value


def runs(store: Path) -> list[RunFolder]:
    """Runs of several kinds: failures, connections, one that was killed and one that went on."""
    killed = write_run(store, "threads", requests=40, stop_seconds=0.06, killed=True)
    resumed = write_run(store, "loop", requests=40, stop_seconds=0.06, killed=True, start_ns=START_NS + 10**12)
    resume_run(resumed, start_ns=START_NS + 10**13)
    return [write_run(store, "serial", requests=9, failure_share=0.3), write_directed_run(store), killed, resumed]


def test_whole_runs(store: Path) -> None:
    """The spans of the run are the slices of its lanes, but for the waits; twice the same bytes."""
    for folder in runs(store):
        spans = [one for one in read_spans(folder) if one.step != "queue"]
        made = [b"".join(as_perfetto(folder.info(), read_events(folder.log), read_spans(folder))) for _ in range(2)]
        assert made[0] == made[1]
        trace = Trace(made[0])
        slices = [one for one in trace.slices if one.category != "connection"]
        assert {str(one.said["span_id"]) for one in slices} == {one.span_id for one in spans}
        assert len(slices) == len(spans)
        assert Counter(one.said["state"] for one in slices) == Counter(one.state for one in spans)
        ended = {name.rpartition("/")[2]: values[-1][1] for name, values in trace.counters.items()}
        roots = [one for one in spans if one.step == "request"]
        assert ended["completed"] == sum(one.state == "completed" for one in roots)
        assert ended["failed"] == sum(one.state == "failed" for one in roots)


def test_fields_on_the_wire() -> None:
    """The encoding is that of protocol buffers: what is written by hand is read by their library."""
    data = message(1, integer(8, 2**64 - 1), message(11, integer(30, -5), text(23, "ä\n"), fixed(47, 2**64 - 1)))
    data += message(1, message(11, double(44, 0.1), integer(9, 4)))
    told = schema.Trace()
    told.ParseFromString(data)
    first, second = told.packet
    assert first.timestamp == 2**64 - 1
    assert (first.track_event.counter_value, first.track_event.name) == (-5, "ä\n")
    assert list(first.track_event.flow_ids) == [2**64 - 1]
    assert second.track_event.double_counter_value == 0.1
    assert varint(0) == b"\0"
