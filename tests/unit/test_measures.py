from typing import Any

import msgspec
import pytest

from eventflow.event import Payload
from eventflow.measuring_events import Attributes, MetricMeasured, ProcessMeasured, ProcessReading, ProcessSampled
from eventflow.metrics import SERIES_MAX
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptProgressed,
    AttemptRedirected,
    AttemptStarted,
    ProcessStarted,
    RecorderDropped,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestQueued,
    RequestStarted,
    RunCompleted,
    RunInterrupted,
    RunStarted,
)
from instrumentation.measures import Exemplar, MeasureFold
from instrumentation.measures.instruments import TABLE, markdown
from instrumentation.measures.origins import origin_key
from tests.told_events import SECOND, SPAN, START, TRACE, Told, shown_of, values

TRY = AttemptStarted(server_address="h.example", server_port=443)
AGAIN = AttemptStarted(server_address="h.example", server_port=443, resend_count=1)
MIB = 1 << 20
ACTIVE, REQUESTS = "http.client.active_requests", "eventflow.requests"


def measured(name: str = "pages", kind: Any = "counter", value: float = 1.0, **more: Any) -> MetricMeasured:
    """One measurement of an instrument, or what `more` says."""
    return MetricMeasured(name=name, kind=kind, **({"sum": value, "min": value, "max": value, "last": value} | more))


def begun(told: Told, writer: str = "main", pid: int = 100, at: float = 0.0, *, resumed: bool = False) -> None:
    """A process begins to carry the run on."""
    told.say(
        writer,
        "run",
        RunStarted(stage="loop", workers=8, resumed=resumed),
        ProcessStarted(pid=pid, role="main"),
        at=at,
    )


def queued(number: int) -> Payload:
    """A request is read from the input."""
    return RequestQueued(number=number, url=f"https://h.example/{number}", name=f"{number}")


def reading(pid: int, user: float = 1.0, memory: int = MIB, threads: int = 2) -> ProcessReading:
    """A process that used half as much time in the kernel."""
    return ProcessReading(pid, memory, user * 1.5, threads, 0, 7, user, user / 2)


def sample(*readings: ProcessReading) -> ProcessSampled:
    """A sample of these."""
    return ProcessSampled(
        memory_bytes=sum(one.memory_bytes for one in readings),
        memory_kind="pss",
        cpu_seconds=sum(one.cpu_seconds for one in readings),
        processes=readings,
        sampling_seconds=0.001,
        peak_bytes=10 * MIB,
    )


# ------------------------------------------------------------------------------------ measurements of eventflow.metrics


def test_counters_are_summed_up_by_process_and_attributes() -> None:
    """A sum counts since its process began, and says so."""
    told = Told()
    told.say("a", "metrics-a", measured(value=2.0, attributes={"kind": "pdf"}), at=1)
    told.say("b", "metrics-b", measured(value=5.0, attributes={"kind": "pdf"}), at=2)
    told.say("a", "metrics-a", measured(value=3.0, attributes={"kind": "pdf"}, unit="", count=2), at=3)
    told.say("a", "metrics-a", measured(value=1.0, attributes={"kind": "html"}), at=4)
    found = [point for point in told.points() if point.name == "pages"]
    assert [(point.writer, point.attributes["kind"], point.value, point.start_ns) for point in found] == [
        ("a", "html", 1.0, START + SECOND),
        ("a", "pdf", 5.0, START + SECOND),
        ("b", "pdf", 5.0, START + 2 * SECOND),
    ]
    assert {point.time_ns for point in found} == {START + 60 * SECOND}
    assert not any(point.is_read for point in found)


def test_up_down_counters_and_gauges() -> None:
    """The first are summed up, of the second the last counts."""
    told = Told()
    for value in (3.0, -1.0):
        told.say("a", "m", measured("open", "up_down_counter", value), measured("level", "gauge", value))
    assert values(told.points(), "open") == {(): 2.0}
    assert values(told.points(), "level") == {(): -1.0}


def test_histograms_are_added_up_bucket_by_bucket() -> None:
    """Count, sum, extremes and buckets are those of all measurements."""
    told = Told()
    for least, most, buckets in ((1.0, 50.0, (1, 1, 0)), (0.5, 200.0, (2, 0, 1))):
        said: Any = {"count": sum(buckets), "sum": 60.0, "min": least, "max": most, "boundaries": (10.0, 100.0)}
        told.say("a", "m", measured("size", "histogram", buckets=buckets, **said))
    (point,) = [point for point in told.points() if point.name == "size"]
    assert point.spread is not None
    assert (point.spread.count, point.spread.sum, point.spread.min, point.spread.max) == (5, 120.0, 0.5, 200.0)
    assert (point.spread.boundaries, point.spread.buckets) == ((10.0, 100.0), (3, 1, 1))
    assert point.value == 0


def test_other_boundaries_are_another_series() -> None:
    """Buckets of different boundaries cannot be added, so they are not."""
    told = Told()
    for boundary in (1.0, 2.0):
        told.say("a", "m", measured("size", "histogram", boundaries=(boundary,), buckets=(1, 0)))
    assert len([point for point in told.points() if point.name == "size"]) == 2


def test_exemplars_are_the_greatest_of_the_interval_within_a_span() -> None:
    """Of each bucket one is kept until the next interval: rather one within a span than a greater one outside."""
    told = Told()
    said: Any = {"boundaries": (10.0,), "buckets": (1, 0)}
    within = {"max_trace_id": TRACE, "max_span_id": SPAN}
    told.say("a", "m", measured("size", "histogram", 3.0, **said, **within), at=1)
    told.say("a", "m", measured("size", "histogram", 2.0, **said, **within), at=2)
    told.say("a", "m", measured("size", "histogram", 9.0, **said), at=3)
    told.say("a", "m", measured("size", "histogram", 11.0, boundaries=(10.0,), buckets=(0, 1)), at=4)
    fold = told.fold()
    (point,) = [point for point in fold.points(START) if point.name == "size"]
    assert point.exemplars == (Exemplar(3.0, START + SECOND, TRACE, SPAN), Exemplar(11.0, START + 4 * SECOND))
    fold.begin_interval()
    (point,) = [point for point in fold.points(START) if point.name == "size"]
    assert point.exemplars == ()


# ---------------------------------------------------------------------------------------------- requests and attempts


def test_requests_are_counted_by_state() -> None:
    """Every state is shown, by the process that carries the run on, whoever told of the request."""
    told = Told()
    begun(told)
    for number in range(4):
        told.say("main", f"request-{number}", queued(number))
    told.say("worker", "request-1", RequestStarted(wait_seconds=0.1), RequestFailed(error="E", message="m", seconds=1))
    told.say("worker", "request-2", RequestStarted(wait_seconds=0.1), RequestCompleted(name="n", bytes=7, seconds=1))
    told.say("worker", "request-3", RequestStarted(wait_seconds=0.1))
    expected = {("queued",): 1, ("started",): 1, ("completed",): 1, ("failed",): 1, ("cancelled",): 0}
    assert values(told.points(), REQUESTS, "main") == values(told.points(), REQUESTS) == expected
    assert shown_of(told.points(), "eventflow.files.size") == [("main", 7)]


def test_attempts_are_counted_by_outcome() -> None:
    """A failure has the kind that the duration has: a status of 400 or more, else the error."""
    told = Told()
    told.say("a", "request-0", TRY, AttemptFailed(error="ServerStatus", message="m", seconds=1, status=503))
    told.say("a", "request-0", AGAIN, AttemptFailed(error="ShortBody", message="m", seconds=1, status=200))
    told.say("a", "request-0", AGAIN, AttemptRedirected(status=301, url="https://h.example/b"))
    told.say("a", "request-0", AGAIN, AttemptCompleted(seconds=1))
    told.say("b", "request-1", TRY, AttemptCompleted(seconds=1))
    points = told.points()
    assert values(points, "eventflow.attempts", "a") == {
        ("completed",): 1,
        ("redirected",): 1,
        ("failed", "503"): 1,
        ("failed", "ShortBody"): 1,
    }
    assert values(points, "eventflow.attempts", "b") == {("completed",): 1}
    assert shown_of(points, "eventflow.retries") == [("a", 2)]


def test_attempts_in_flight_end_however_their_request_ends() -> None:
    """An attempt is in flight until it ends, its request ends, or its request begins anew; then the series is at 0."""
    told = Told()
    begun(told)
    for number, ending in enumerate((AttemptCompleted(seconds=1), RequestCancelled(seconds=1), queued(2), None)):
        told.say("main", f"request-{number}", queued(number), TRY, *([ending] if ending else []))
    assert values(told.points(), ACTIVE) == {("h.example", 443): 1}
    told.say("main", "request-3", AttemptCompleted(seconds=1))
    assert values(told.points(), ACTIVE) == {("h.example", 443): 0}


def test_an_attempt_of_an_ended_request_is_not_in_flight() -> None:
    """A worker's log may be read after that of the process that ended its request."""
    told = Told()
    begun(told)
    told.say("main", "request-0", queued(0))
    told.say("worker", "request-0", TRY, AttemptProgressed(bytes=5, seconds=1))
    told.say("main", "request-0", RequestCancelled(seconds=2))
    fold = MeasureFold()
    for event in sorted(told.events, key=lambda event: event.writer):
        fold.feed(event)
    assert values(fold.points(START), ACTIVE) == {("h.example", 443): 0}
    assert fold.points(told.fold().last_ns) == told.fold().points(fold.last_ns)


def test_bytes_are_counted_once_as_they_arrive() -> None:
    """What progress told of is not counted again with the whole body; what came of a failed attempt counts."""
    told = Told()
    told.say("a", "request-0", TRY, AttemptProgressed(bytes=10, seconds=1), AttemptProgressed(bytes=30, seconds=2))
    assert shown_of(told.points(), "eventflow.body.received") == [("a", 30)]
    told.say("a", "request-0", AttemptBody(bytes=50, seconds=3), AttemptCompleted(seconds=3))
    told.say("a", "request-1", TRY, AttemptProgressed(bytes=7, seconds=1))
    told.say("a", "request-1", AttemptFailed(error="TimedOut", message="m", seconds=1))
    told.say("a", "request-1", AGAIN, AttemptBody(bytes=20, seconds=1))
    assert shown_of(told.points(), "eventflow.body.received") == [("a", 77)]


def test_limits_and_breakers_are_shown_by_origin() -> None:
    """The last limit counts; a breaker is open or closed, and how often it opened is counted."""
    told = Told()
    origin = "https://h.example"
    told.say("a", "origin", LimitChanged(origin=origin, limit=4, in_flight=1))
    told.say("a", "origin", LimitChanged(origin=origin, limit=9, in_flight=1), BreakerOpened(origin=origin, seconds=5))
    key = ("h.example", 443, "https")
    assert values(told.points(), "eventflow.origin.limit") == {key: 9}
    assert values(told.points(), "eventflow.origin.breaker.open") == {key: 1}
    told.say("a", "origin", BreakerClosed(origin=origin), BreakerOpened(origin=origin, seconds=5))
    told.say("a", "origin", BreakerClosed(origin=origin))
    assert values(told.points(), "eventflow.origin.breaker.open") == {key: 0}
    assert values(told.points(), "eventflow.origin.breaker.openings") == {key: 2}


def test_an_origin_that_is_none_is_shown_as_it_is() -> None:
    """What a program of a user calls an origin raises nothing."""
    assert origin_key("nowhere") == (("server.address", "nowhere"),)
    assert origin_key("http://[bad") == (("server.address", "http://[bad"),)


def test_the_rest_is_estimated_while_it_can_be() -> None:
    """It takes as long as the last requests did; it is absent without a total, before the first, and when interrupted."""
    told = Told()
    begun(told)
    assert shown_of(told.points(10, total=10), "eventflow.run.remaining") == []
    for number in range(4):
        told.say("main", f"request-{number}", queued(number), at=1)
        told.say("main", f"request-{number}", RequestCompleted(name="n", bytes=1, seconds=1), at=number + 1)
    (remaining,) = shown_of(told.points(5, total=10), "eventflow.run.remaining")
    assert remaining == ("main", 7.5)
    assert shown_of(told.points(5), "eventflow.run.remaining") == []
    told.say("main", "run", RunInterrupted(signal="SIGINT"), at=5)
    assert shown_of(told.points(5, total=10), "eventflow.run.remaining") == []
    told.say("main", "run", RunCompleted(), at=6)
    assert shown_of(told.points(6), "eventflow.run.remaining") == [("main", 0)]


# ----------------------------------------------------------------------------------------------------- the processes


def test_samples_are_put_to_the_processes_that_write_logs() -> None:
    """A worker has its own memory and CPU time under its own name; what has no log counts in the run's sums only."""
    told = Told()
    begun(told)
    told.say("main", "run", sample(reading(100, 2.0), reading(200, 4.0, 3 * MIB), reading(300, 1.0)), at=2)
    told.say("worker", "process-worker", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("worker", "request-0", ProcessStarted(pid=300, role="program"), at=1)
    points = told.points()
    assert values(points, "process.cpu.time", "main") == {("user",): 2.0, ("system",): 1.0}
    assert values(points, "process.cpu.time", "worker") == {("user",): 4.0, ("system",): 2.0}
    assert values(points, "process.memory.usage", "worker") == {("pss",): 3 * MIB}
    assert values(points, "process.thread.count", "worker") == {(): 2}
    assert values(points, "process.unix.file_descriptor.count", "worker") == {(): 7}
    assert values(points, "eventflow.run.memory.usage") == {("pss",): 5 * MIB}
    assert values(points, "eventflow.run.memory.peak") == {("pss",): 10 * MIB}
    assert shown_of(points, "eventflow.run.processes") == [("main", 3)]
    assert shown_of(points, "eventflow.run.threads") == [("main", 6)]
    assert shown_of(points, "eventflow.run.file_descriptors") == [("main", 21)]
    assert shown_of(points, "eventflow.run.cpu.time") == [("main", 10.5)]
    assert shown_of(points, "eventflow.run.workers") == [("main", 8)]


def test_of_a_process_that_ended_only_what_it_counted_is_shown() -> None:
    """It has no memory any more, but has used its time; and it does not live."""
    told = Told()
    begun(told)
    told.say("worker", "process-worker", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("main", "run", sample(reading(100), reading(200)), at=2)
    assert told.fold().lives("worker")
    told.say("main", "run", sample(reading(100)), at=3)
    assert not told.fold().lives("worker")
    assert told.fold().lives("main")
    assert values(told.points(), "process.cpu.time", "worker") == {("user",): 1.0, ("system",): 0.5}
    assert values(told.points(), "process.memory.usage", "worker") == {}


def test_a_number_that_is_given_again_is_that_of_who_began_last() -> None:
    """What was read of the earlier process is not shown for the later one, nor the other way round."""
    told = Told()
    begun(told)
    told.say("one", "process-one", ProcessStarted(pid=200, role="worker"), at=1)
    told.say("main", "run", sample(reading(200, 9.0)), at=2)
    told.say("two", "process-two", ProcessStarted(pid=200, role="worker"), at=3)
    assert values(told.points(), "process.cpu.time", "two") == {}
    told.say("main", "run", sample(reading(200, 1.0)), at=4)
    assert values(told.points(), "process.cpu.time", "two") == {("user",): 1.0, ("system",): 0.5}
    assert values(told.points(), "process.cpu.time", "one") == {}


def test_the_accounts_of_the_run() -> None:
    """What the kernel does not tell is absent, not 0; energy says where it is from."""
    told = Told()
    begun(told)
    account = ProcessMeasured(
        seconds=5,
        user_seconds=2,
        system_seconds=1,
        voluntary_switches=30,
        involuntary_switches=4,
        major_faults=0,
        disk_read_bytes=10,
        disk_written_bytes=20,
        sampling_seconds=0.01,
        energy_class="desktop",
        energy_server_joules=7,
        energy_desktop_joules=9,
    )
    told.say("main", "run", account)
    points = told.points()
    assert values(points, "eventflow.run.cpu.accounted") == {("user",): 2, ("system",): 1}
    assert values(points, "eventflow.run.context_switches") == {("voluntary",): 30, ("involuntary",): 4}
    assert values(points, "eventflow.run.paging.faults") == {("major",): 0}
    assert values(points, "eventflow.run.disk.io") == {("read",): 10, ("write",): 20}
    assert values(points, "eventflow.run.network.io") == {}
    assert values(points, "eventflow.run.energy") == {("modelled",): 9}
    told.say("main", "run", msgspec.structs.replace(account, energy_measured_joules=12.0))
    assert values(told.points(), "eventflow.run.energy")[("measured",)] == 12.0


def test_a_resumed_run_counts_anew() -> None:
    """The new process's sums begin at 0, at its own start; of the old one only sums are left, as they were."""
    told = Told()
    begun(told)
    told.say("main", "request-0", queued(0), TRY)
    told.say("main", "run", sample(reading(100)), at=1)
    begun(told, "second", 100, at=100, resumed=True)
    told.say("second", "request-0", queued(0), TRY, AttemptCompleted(seconds=1), at=101)
    told.say("second", "run", sample(reading(100, 3.0)), at=101)
    points = told.points(at=102)
    assert values(points, "process.cpu.time", "main") == {("user",): 1.0, ("system",): 0.5}
    assert values(points, "process.cpu.time", "second") == {("user",): 3.0, ("system",): 1.5}
    assert {point.start_ns for point in points if point.writer == "second"} == {START + 100 * SECOND}
    assert {point.kind for point in points if point.writer == "main"} == {"counter"}
    assert values(points, REQUESTS, "second") == values(points, REQUESTS)
    assert not told.fold().lives("main")


def test_events_are_counted_and_those_that_were_lost() -> None:
    """0 is shown where nothing was lost, so that an alarm can be set."""
    told = Told()
    begun(told)
    told.say("b", "metrics-b", RecorderDropped(count=3))
    assert shown_of(told.points(), "eventflow.events") == [("b", 1), ("main", 2)]
    assert shown_of(told.points(), "eventflow.events.lost") == [("b", 3), ("main", 0)]


# ------------------------------------------------------------------------------------------------- what cannot happen


def test_what_comes_again_changes_nothing() -> None:
    """Whoever feeds the events from the beginning again may be behind."""
    told = Told()
    begun(told)
    told.say("main", "metrics", measured(value=2.0))
    fold = told.fold()
    before = fold.points(START)
    for event in told.events:
        fold.feed(event)
    assert fold.points(START) == before


@pytest.mark.parametrize("event_type", sorted(MeasureFold()._rules))
@pytest.mark.parametrize("data", [b"null", b"{}", b'{"name":7,"seconds":"x"}', b'{"limit":'])
def test_a_malformed_payload_is_counted(event_type: str, data: bytes) -> None:
    """It counts as an event that was recorded; no payload makes the fold raise."""
    told = Told()
    begun(told)
    fold = told.fold()
    event = msgspec.structs.replace(
        told.events[-1], type=event_type, data=msgspec.Raw(data), seq=9, stream="request-5", version=0
    )
    fold.feed(event)
    assert shown_of(fold.points(START), "eventflow.events") == [("main", 10)]
    assert fold.malformed <= 1


def test_buckets_that_fit_no_boundaries_are_malformed() -> None:
    """They cannot be added to anything."""
    told = Told()
    told.say("a", "m", measured("size", "histogram", boundaries=(1.0, 2.0), buckets=(1,)))
    assert told.fold().malformed == 1
    assert values(told.points(), "size") == {}


def test_too_many_origins_are_counted_together() -> None:
    """However many there are, the points of an instrument are bounded."""
    told = Told()
    for number in range(SERIES_MAX + 5):
        told.say("a", "o", BreakerOpened(origin=f"https://h{number}.example", seconds=1))
    found = values(told.points(), "eventflow.origin.breaker.openings")
    assert len(found) == SERIES_MAX + 1
    assert found[(True,)] == 5


def test_nothing_was_told() -> None:
    """A run without events has no points."""
    assert MeasureFold().points(START) == []


def test_the_table_is_that_of_the_documents() -> None:
    """Each instrument once, with names, units and kinds of OpenTelemetry's form."""
    names = [instrument.name for instrument in TABLE]
    assert len(set(names)) == len(names)
    rows = markdown().splitlines()
    assert len(rows) == len(TABLE) + 2
    assert {row.count(" | ") for row in rows if not row.startswith("|---")} == {5}
    attributes: Attributes = dict.fromkeys(names, "")
    assert all(name == name.lower() and " " not in name for name in attributes)
