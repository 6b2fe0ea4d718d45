import runpy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventflow.measuring_events import MetricMeasured
from eventflow.metrics import SERIES_MAX
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptFailed,
    AttemptProgressed,
    AttemptRedirected,
    AttemptStarted,
    RecorderDropped,
    RequestCancelled,
    RequestCompleted,
    RequestFailed,
    RequestStarted,
    RunCompleted,
    RunInterrupted,
)
from instrumentation.measures import Exemplar, MeasureFold
from instrumentation.measures.instruments import TABLE, markdown
from instrumentation.measures.origins import origin_key
from tests.told_events import SECOND, SPAN, START, TRACE, Told, begun, queued, shown_of, values

TRY = AttemptStarted(server_address="h.example", server_port=443)
AGAIN = AttemptStarted(server_address="h.example", server_port=443, resend_count=1)
DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
ACTIVE, REQUESTS = "http.client.active_requests", "eventflow.requests"


def measured(name: str = "pages", kind: Any = "counter", value: float = 1.0, **more: Any) -> MetricMeasured:
    """One measurement of an instrument, or what `more` says."""
    return MetricMeasured(name=name, kind=kind, **({"sum": value, "min": value, "max": value, "last": value} | more))


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
    """It takes as long as the last requests did; absent without a total, before the first, and when interrupted."""
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


def test_the_table_has_each_instrument_once() -> None:
    """With a name of OpenTelemetry's form, and a row of its own in the document."""
    names = [instrument.name for instrument in TABLE]
    assert len(set(names)) == len(names)
    assert all(name == name.lower() and " " not in name for name in names)
    rows = markdown().splitlines()
    assert len(rows) == len(TABLE) + 2
    assert {row.count(" | ") for row in rows if not row.startswith("|---")} == {5}


def test_the_table_is_that_of_the_document() -> None:
    """docs/metrics.md lists every instrument as the code does; after a change, run docs/make_pages.py."""
    made = runpy.run_path(str(DOCUMENT.parent / "make_pages.py"))["pages"]()
    assert DOCUMENT.read_text(encoding="utf-8") == made[DOCUMENT]
    assert markdown() in made[DOCUMENT]
