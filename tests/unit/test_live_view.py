"""The live view: a fold that gives the same answer in any order of writers, on any prefix, in bounded memory."""

import random
import sys
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.event import Payload
from eventflow.live.origins import ORIGINS_MAX, Origins
from eventflow.live.view import LiveView
from eventflow.measuring_events import ProcessReading, ProcessSampled
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged
from eventflow.vocabulary import (
    AttemptAnswering,
    AttemptBody,
    AttemptFailed,
    AttemptProgressed,
    AttemptRedirected,
    AttemptResponse,
    AttemptSent,
    AttemptStarted,
    ProcessExited,
    ProcessStarted,
    RecorderDropped,
    RequestCancelled,
    RequestDelayed,
    RequestFailed,
    RequestQueued,
    RunCompleted,
    RunInterrupted,
    RunStarted,
)
from tests.scripted_view import ATTEMPT, COMPLETED, RESPONSE, START, UUID, Script, seen, view_of


@pytest.mark.parametrize(
    ("payloads", "state"),
    [
        ((), "starting"),
        ((ATTEMPT,), "connecting"),
        ((ATTEMPT, AttemptSent(seconds=0.1)), "awaiting answer"),
        ((ATTEMPT, AttemptSent(seconds=0.1), AttemptAnswering(seconds=0.2)), "answering"),
        ((ATTEMPT, RESPONSE), "receiving"),
        ((ATTEMPT, RESPONSE, AttemptBody(bytes=1000, seconds=0.1)), "processing"),
        ((ATTEMPT, AttemptRedirected(status=302, url="http://other.example/")), "starting"),
        ((ATTEMPT, RequestDelayed(seconds=3.0, reason="503")), "delayed"),
        ((ProcessStarted(pid=7, role="program"),), "processing"),
    ],
)
def test_a_request_is_where_its_last_event_says(payloads: Sequence[Payload], state: str) -> None:
    """Each step of a request's way has a name, and counts once."""
    shown = seen(view_of(*Script().request(0, *payloads)))
    assert {name: count for name, count in shown.states.items() if count} == {state: 1}
    assert [flight.state for flight in shown.flights] == [state]
    queued = seen(view_of(Script().request(0)[0]))
    assert queued.states["queued"] == 1
    assert not queued.flights


def test_the_simple_stages_do_not_know_whether_they_connect_or_wait() -> None:
    """What a stage cannot see is not claimed."""
    shown = seen(view_of(*Script().request(0, ATTEMPT), stage="threads"))
    assert shown.states["requesting"] == 1


def test_a_request_in_flight_is_described() -> None:
    """URL, age, for how long it is where it is, attempt, bytes of how many, rate; when a delayed one goes on."""
    script = Script()
    progress = (
        AttemptStarted(server_address="h.example", server_port=80, resend_count=2),
        AttemptSent(seconds=0.0, range_start=500),
        AttemptResponse(status=206, seconds=0.0, content_length=4000),
        AttemptProgressed(bytes=1000, seconds=1.0),
    )
    view = view_of(
        *script.request(0, *progress, step=1.0),
        *script.request(1, ATTEMPT, RequestDelayed(seconds=10.0, reason="503"), at=3.0),
    )
    first, second = seen(view, at=6.0).flights
    assert (first.url, first.state, first.attempt) == ("http://h.example/0", "receiving", 3)
    assert (first.age_seconds, first.state_seconds) == (5.0, 2.0)
    assert (first.bytes, first.length, first.bytes_per_second) == (1500, 4500, 500.0)
    assert (second.state, second.wait_seconds, second.reason) == ("delayed", 7.0, "503")


def test_the_order_of_requests_can_be_chosen() -> None:
    """The oldest, those that are stuck for the longest time, or the slowest bodies first."""
    script = Script()
    lines = [
        *script.request(0, ATTEMPT),
        *script.request(1, ATTEMPT, at=1.0),
        *script.request(2, ATTEMPT, RESPONSE, AttemptProgressed(bytes=10, seconds=1.0), at=2.0),
        *script.request(3, ATTEMPT, RESPONSE, AttemptProgressed(bytes=90, seconds=1.0), at=2.0),
        script.line("request-0", AttemptSent(seconds=0.0), 5.0),
    ]
    view = view_of(*lines)
    orders = {
        order: [flight.number for flight in seen(view, 6.0, order=order).flights] for order in ("age", "stuck", "slow")
    }
    assert orders == {"age": [0, 1, 2, 3], "stuck": [1, 2, 3, 0], "slow": [2, 3, 0, 1]}
    assert len(seen(view, 6.0, rows=2).flights) == 2


def test_a_request_counts_once_whatever_the_order_of_writers() -> None:
    """Events of one request come from several logs; the last of its stream counts, late ones add what they know."""
    script = Script()
    lines = (
        script.request(0, ATTEMPT, RESPONSE, AttemptBody(bytes=1000, seconds=0.1), COMPLETED)
        + script.request(1, ATTEMPT, AttemptFailed(error="E", message="m", seconds=1.0))
        + [script.line("request-1", RequestFailed(error="E", message="m", seconds=1.0))]
        + script.request(2, ATTEMPT)
        + script.request(3, RequestCancelled(seconds=1.0))
    )
    for seed in range(100):
        random.Random(seed).shuffle(lines)
        view = LiveView("r", "director")
        for line in lines:
            view.feed([line])
        shown = seen(view)
        assert (shown.requests, shown.completed, shown.failed, shown.cancelled) == (4, 1, 1, 1)
        assert [(flight.url, flight.state) for flight in shown.flights] == [("http://h.example/2", "connecting")]
        assert shown.bytes == 1000
        assert (shown.attempt_errors, shown.request_errors) == ({"E": 1}, {"E": 1})


def test_memory_is_that_of_what_is_in_flight() -> None:
    """Nothing is kept of a finished request but four bytes."""
    script, view = Script(), LiveView("r", "director")
    story = (ATTEMPT, RESPONSE, AttemptBody(bytes=1, seconds=0.1), COMPLETED)
    for number in range(5_000):
        view.feed(script.request(number, *story))
    assert not view.fold.flights
    assert seen(view).completed == 5_000
    assert sys.getsizeof(view.fold.problems) < 2_000


def test_a_resumed_run_counts_on_and_measures_anew() -> None:
    """What the first sitting left in flight is unfinished until it is queued again; rates are the second's."""
    script = Script()
    first = [
        script.run(RunStarted(stage="director", workers=1)),
        *script.request(0, ATTEMPT, COMPLETED),
        *script.request(1, ATTEMPT, AttemptFailed(error="E", message="m", seconds=0.0)),
        script.line("request-1", RequestFailed(error="E", message="m", seconds=0.0)),
        *script.request(2, ATTEMPT),
        *script.request(3, ATTEMPT),
    ]
    again = [
        script.run(RunStarted(stage="director", workers=1, resumed=True), 100.0),
        script.line("request-1", RequestQueued(number=1, url="http://h.example/1", name="n"), 100.0),
        script.line("request-2", RequestQueued(number=2, url="http://h.example/2", name="n"), 100.0),
    ]
    view = view_of(*first, *again)
    shown = seen(view, 101.0)
    assert (shown.requests, shown.completed, shown.failed, shown.unfinished) == (4, 1, 0, 1)
    assert (shown.states["queued"], shown.attempt_errors, shown.resumed) == (2, {}, True)
    assert shown.seconds == 1.0
    late = view_of(again[0], *again[1:], *first)  # the log of the first sitting is read last
    counted = seen(late, 101.0)
    assert (counted.requests, counted.completed, counted.failed, counted.unfinished) == (4, 1, 0, 1)
    assert counted.states == shown.states


def test_the_state_of_the_run() -> None:
    """Running while somebody writes; killed where nobody does and no end is told; else what its last event says."""
    script = Script()
    view = LiveView("r", "director")
    assert seen(view, is_live=False).state == "starting"
    view.feed([script.run(RunStarted(stage="director", workers=1))])
    assert (seen(view).state, seen(view, is_live=False).state) == ("running", "killed")
    assert seen(view, is_live=False, problem="bytes").state == "damaged"
    view.feed([script.run(RunInterrupted(signal="SIGINT"), 4.0)])
    assert seen(view, 99.0).state == "interrupted"
    assert seen(view, 99.0).seconds == 4.0
    view.feed([script.run(RunStarted(stage="director", workers=1, resumed=True), 5.0), script.run(RunCompleted(), 6.0)])
    assert seen(view, 99.0).state == "completed"


def test_rates_are_of_the_last_seconds_and_of_the_whole_run_at_its_end() -> None:
    """And how long it will take follows from the last half minute."""
    script = Script()
    view = view_of(script.run(RunStarted(stage="director", workers=1)), total=1000)
    story = (ATTEMPT, RESPONSE, AttemptBody(bytes=500, seconds=0.1), COMPLETED)
    for second in range(20):
        for number in range(second * 10, second * 10 + 10):
            view.feed(script.request(number, *story, at=second + 0.5))
    shown = seen(view, 20.0)
    assert (shown.requests_per_second, shown.bytes_per_second) == (10.0, 5000.0)
    assert shown.seconds_left == pytest.approx(80.0)
    assert shown.courses.requests == (10.0,) * 20
    assert shown.origins[0].attempts_per_second == 10.0
    view.feed([script.run(RunCompleted(), 40.0)])
    over = seen(view, 1000.0)
    assert (over.requests_per_second, over.seconds_left) == (5.0, None)
    assert sum(over.courses.requests) == 200


def test_origins_have_limits_breakers_and_errors() -> None:
    """Limits of several processes add up; an open breaker is open until its time, then it is probed until it closes."""
    one, two = Script("one"), Script("two")
    name = "http://h.example"
    view = view_of(
        one.line("origin-1", LimitChanged(origin=name, limit=8, in_flight=1)),
        two.line("origin-2", LimitChanged(origin=name, limit=16, in_flight=1), 1.0),
        one.line("origin-1", LimitChanged(origin=name, limit=4, in_flight=1, latency_seconds=0.2), 3.0),
        one.line("origin-1", BreakerOpened(origin=name, seconds=10.0), 3.0),
        *one.request(0, ATTEMPT, at=3.0),
        *one.request(1, ATTEMPT, AttemptFailed(error="TimedOut", message="m", seconds=1.0), at=3.0),
        one.request(2, at=3.0)[0],
    )
    (line,) = seen(view, 4.0).origins
    assert (line.origin, line.in_flight, line.queued, line.limit) == (name, 2, 1, 20)
    assert line.limits == (8.0, 24.0, 24.0, 20.0, 20.0)
    assert (line.attempts, line.errors, line.breaker_seconds) == (1, 1, 9.0)
    assert seen(view, 14.0).origins[0].breaker_seconds == 0.0
    view.feed([one.line("origin-1", BreakerClosed(origin=name), 15.0)])
    assert seen(view, 15.0).origins[0].breaker_seconds is None


def test_a_redirect_counts_for_the_origin_it_leads_to() -> None:
    """The request is in flight there; a retry begins again where the list says."""
    script = Script()
    there = AttemptStarted(server_address="::1", server_port=8443, resend_count=1)
    view = view_of(*script.request(0, ATTEMPT, AttemptRedirected(status=302, url="https://[::1]:8443/x"), there))
    assert {line.origin: line.in_flight for line in seen(view).origins} == {
        "http://h.example": 0,
        "https://[::1]:8443": 1,
    }
    view.feed([script.line("request-0", RequestDelayed(seconds=0.0, reason="again"))])
    assert {line.origin: line.queued for line in seen(view).origins}["http://h.example"] == 1


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://Example.org:80/a", "http://example.org"),
        ("HTTPS://example.org:8443?x", "https://example.org:8443"),
        ("https://REDACTED:REDACTED@example.org/", "https://example.org"),
        ("http://[2001:db8::1]/", "http://[2001:db8::1]"),
        ("no url at all", ""),
    ],
)
def test_the_origin_of_a_url(url: str, name: str) -> None:
    """As the director calls it."""
    assert Origins().of_url(url).name == name


def test_of_many_origins_the_quiet_ones_are_forgotten() -> None:
    """A crawl of a million hosts needs no memory for all of them; those in use stay."""
    script, view = Script(), LiveView("r", "director")
    view.feed(script.request(0, ATTEMPT))
    for number in range(1, 3 * ORIGINS_MAX):
        url = f"http://h{number}.example/"
        view.feed([script.line(f"request-{number}", RequestQueued(number=number, url=url, name="n"), number)])
        view.feed([script.line(f"request-{number}", RequestCancelled(seconds=0.0), number)])
    shown = seen(view, 9999.0)
    assert shown.origins_known <= 2 * ORIGINS_MAX
    assert shown.origins[0].origin == "http://h.example"


def test_errors_are_counted_by_kind_and_the_last_ones_kept() -> None:
    """A failed attempt says what became of it; a failure without an attempt is one of its own; kinds are bounded."""
    script = Script()
    view = view_of(
        *script.request(0, ATTEMPT, AttemptFailed(error="TimedOut", message="slow", seconds=1.0)),
        script.line("request-0", RequestDelayed(seconds=1.0, reason="slow")),
        *script.request(1, ATTEMPT, AttemptFailed(error="ServerStatus", message="500", seconds=1.0), at=1.0),
        script.line("request-1", RequestFailed(error="ServerStatus", message="u: 500: wait", seconds=1.0), 1.0),
        *script.request(2, at=2.0),
        script.line(
            "request-2", RequestFailed(error="Bad", message="http://h.example/2: no: mend it", seconds=1.0), 2.0
        ),
    )
    shown = seen(view)
    assert [(error.error, error.message, error.outcome) for error in shown.last_errors] == [
        ("Bad", "no: mend it", "failed"),
        ("ServerStatus", "500", "failed"),
        ("TimedOut", "slow", "retry"),
    ]
    assert (shown.attempt_errors, shown.request_errors) == (
        {"TimedOut": 1, "ServerStatus": 1},
        {"ServerStatus": 1, "Bad": 1},
    )
    for number in range(3, 300):
        view.feed(script.request(number, AttemptFailed(error=f"E{number}", message="m", seconds=0.0)))
    assert len(seen(view).attempt_errors) <= 51
    assert sum(seen(view).attempt_errors.values()) == 299
    assert len(view.fold.problems) <= 20


def test_processes_memory_and_cpu() -> None:
    """From the samples: memory now and at its peak, cores in use over the last seconds, each process with its work."""
    main, worker = Script("main"), Script("worker")

    def sample(memory: int, cpu: float) -> ProcessSampled:
        readings = (
            ProcessReading(1, memory - 10, cpu / 4, 2),
            ProcessReading(9, 0, 0.0, 1),
            ProcessReading(2, 10, cpu * 3 / 4, 3),
        )
        return ProcessSampled(
            memory_bytes=memory, memory_kind="rss", cpu_seconds=cpu, processes=readings, sampling_seconds=0.0
        )

    view = view_of(
        main.run(RunStarted(stage="director", workers=2)),
        main.run(ProcessStarted(pid=1, role="main")),
        worker.line("process-worker", ProcessStarted(pid=2, role="worker")),
        main.run(sample(100, 0.0)),
        main.run(sample(300, 2.0), 1.0),
        main.run(sample(200, 8.0), 4.0),
        *worker.request(0, ATTEMPT, at=4.0),
    )
    machine = seen(view, 4.0).machine
    assert (machine.memory_bytes, machine.peak_memory_bytes, machine.memory_kind) == (200, 300, "rss")
    assert machine.cpu == 2.0
    assert [(line.pid, line.role, line.cpu, line.in_flight) for line in machine.processes] == [
        (1, "main", 0.5, 0),
        (2, "worker", 1.5, 1),
        (9, "other", 0.0, 0),
    ]
    assert machine.course == (100.0, 300.0, 300.0, 300.0, 200.0)
    view.feed([main.run(ProcessExited(pid=2, exit_code=0, seconds=1.0), 5.0), main.run(RunCompleted(), 8.0)])
    over = seen(view, 99.0).machine
    assert (over.cpu, over.processes) == (1.0, ())


def test_what_it_does_not_know_is_counted_and_ignored() -> None:
    """Types of users and of newer versions, streams that look like requests, payloads that are not as they should."""
    script = Script()
    good = script.request(0, ATTEMPT)
    odd = [
        good[0].replace(b"request.queued", b"image.resized"),
        good[1].replace(b"request-0", b"request-"),
        good[1].replace(b"request-0", b"request-x1"),
        good[1].replace(b"request-0", b"request-" + b"9" * 5000),
        script.line("request-7", RequestQueued(number=7, url="u", name="n")).replace(b'"url":"u"', b'"url":7'),
        b'{"id":"' + UUID.encode() + b'","type":"request.queued"',
        b"",
        b"{",
        script.run(RecorderDropped(count=3)),
    ]
    view = view_of(*odd, *good, *odd)
    shown = seen(view)
    assert (shown.requests, shown.states["connecting"]) == (1, 1)
    assert shown.events == 2 * len(odd) + len(good)
    assert (shown.events_malformed, shown.events_lost) == (6, 6)


@given(st.lists(st.binary(max_size=300), max_size=5), st.data())
@settings(max_examples=60)
def test_no_line_makes_it_raise(noise: list[bytes], data: st.DataObject) -> None:
    """Whatever the bytes, and whatever the values in a line of a known type."""
    lines = [*noise]
    for line in Script().request(1, ATTEMPT, RESPONSE, AttemptProgressed(bytes=1, seconds=1.0), COMPLETED):
        event = msgspec.json.decode(line)
        key = data.draw(st.sampled_from(["time", "version", "stream", "data", "writer"]))
        event[key] = data.draw(
            st.one_of(st.integers(), st.text(), st.none(), st.dictionaries(st.text(), st.integers()))
        )
        lines.append(msgspec.json.encode(event))
    view = LiveView("r", "director")
    view.feed(lines)
    view.snapshot(START, is_live=data.draw(st.booleans()))
