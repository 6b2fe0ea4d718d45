"""The points of a run do not depend on the order in which its writers' logs are read, and no counter ever falls."""

import random
from collections import defaultdict, deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.event import Payload, StoredEvent
from eventflow.measuring_events import MetricMeasured, ProcessReading, ProcessSampled
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
    RunInterrupted,
    RunStarted,
)
from instrumentation.measures import MeasureFold, Point
from tests.told_events import Told

PIDS = (100, 101, 102)
ORIGIN = "https://h.example"
ENDS = (
    RequestCompleted(name="n", bytes=7, seconds=1),
    RequestFailed(error="E", message="m", seconds=1),
    RequestCancelled(seconds=1),
)


def _attempt(draw: st.DrawFn) -> list[Payload]:
    """An attempt, perhaps not to its end."""
    resend = draw(st.integers(0, 1))
    steps: list[Payload] = [AttemptStarted(server_address="h", server_port=443, resend_count=resend)]
    received = 0
    for more in draw(st.lists(st.integers(0, 50), max_size=2)):
        received += more
        steps.append(AttemptProgressed(bytes=received, seconds=1))
    ending = draw(st.sampled_from(("completed", "failed", "redirected", "none")))
    if ending == "completed":
        steps += [AttemptBody(bytes=received + 5, seconds=1), AttemptCompleted(seconds=1)]
    elif ending == "failed":
        steps.append(AttemptFailed(error="TimedOut", message="m", seconds=1))
    elif ending == "redirected":
        steps.append(AttemptRedirected(status=301, url=ORIGIN))
    return steps


def _measured(draw: st.DrawFn) -> MetricMeasured:
    value = float(draw(st.integers(0, 20)))
    said: Any = {"sum": value, "min": value, "max": value, "last": value}
    if draw(st.booleans()):
        buckets = (1, 0) if value <= 10 else (0, 1)
        return MetricMeasured(name="size", kind="histogram", boundaries=(10.0,), buckets=buckets, **said)
    return MetricMeasured(name="pages", kind="counter", **said)


def _sampled(draw: st.DrawFn, seconds: float) -> ProcessSampled:
    """Processes use more time as it passes."""
    pids = [100, *draw(st.lists(st.sampled_from(PIDS[1:]), unique=True))]
    readings = tuple(ProcessReading(pid, 10 * pid, seconds, 1, 0, 3, seconds / 2, seconds / 3) for pid in pids)
    return ProcessSampled(
        memory_bytes=sum(one.memory_bytes for one in readings),
        memory_kind="pss",
        cpu_seconds=seconds * len(PIDS),
        processes=readings,
        sampling_seconds=0,
    )


def _said(draw: st.DrawFn, writer: str, at: float) -> tuple[str, list[Payload]]:
    """What a process says, and of what; `main` is who samples."""
    request = f"request-{draw(st.integers(0, 1))}"
    match draw(st.sampled_from(("start", "attempt", "end", "measure", "origin", "drop"))):
        case "start":
            return request, [RequestStarted(wait_seconds=0)]
        case "attempt":
            return request, _attempt(draw)
        case "end":
            return request, [draw(st.sampled_from(ENDS))]
        case "measure":
            return f"metrics-{writer}", [_measured(draw)]
        case "drop":
            return f"metrics-{writer}", [RecorderDropped(count=1)]
        case _:
            limit = LimitChanged(origin=ORIGIN, limit=int(at), in_flight=1)
            breakers = (BreakerOpened(origin=ORIGIN, seconds=1), BreakerClosed(origin=ORIGIN))
            return f"origin-{writer}", [draw(st.sampled_from((limit, *breakers)))]


@st.composite
def tellings(draw: st.DrawFn) -> list[StoredEvent]:
    """A run of one or two sittings, with workers: whoever has a story goes on in it where the one before left it."""
    told, at = Told(), 0.0
    for sitting in range(draw(st.integers(1, 2))):
        main = f"main{sitting}"
        at += 1
        told.say(main, "run", RunStarted(stage="loop", workers=2, resumed=sitting > 0), at=at)
        told.say(main, "run", ProcessStarted(pid=100, role="main"), at=at)
        writers = [main]
        for _ in range(draw(st.integers(1, 14))):
            at += 0.5
            match draw(st.integers(0, 7)):
                case 0:
                    worker = f"worker{len(told.events)}"
                    pid = draw(st.sampled_from(PIDS[1:]))
                    told.say(worker, f"process-{worker}", ProcessStarted(pid=pid, role="worker"), at=at)
                    writers.append(worker)
                case 1:
                    told.say(main, "run", _sampled(draw, at), at=at)
                case 2:
                    stream = f"request-{draw(st.integers(0, 1))}"
                    told.say(main, stream, RequestQueued(number=0, url=ORIGIN, name="n"), at=at)
                case _:
                    writer = draw(st.sampled_from(writers))
                    stream, payloads = _said(draw, writer, at)
                    told.say(writer, stream, *payloads, at=at)
        if draw(st.booleans()):
            told.say(main, "run", RunInterrupted(signal="SIGINT"), at=at)
    return told.events


def shuffled(events: list[StoredEvent], seed: int) -> list[StoredEvent]:
    """Each writer's events in their order, the writers mixed in any way."""
    chance = random.Random(seed)
    logs: dict[str, deque[StoredEvent]] = defaultdict(deque)
    for event in events:
        logs[event.writer].append(event)
    mixed = []
    while logs:
        writer = chance.choice(sorted(logs))
        mixed += [logs[writer].popleft() for _ in range(min(len(logs[writer]), chance.choice((1, 1, 3, 50))))]
        if not logs[writer]:
            del logs[writer]
    return mixed


@given(tellings(), st.integers())
@settings(max_examples=250, deadline=None)
def test_the_order_of_writers_does_not_matter(events: list[StoredEvent], seed: int) -> None:
    """However the logs are mixed, and whatever comes again, the points are the same in the end."""
    plain, mixed = MeasureFold(10), MeasureFold(10)
    for event in events:
        plain.feed(event)
    for event in shuffled(events, seed):
        mixed.feed(event)
    for event in events:
        mixed.feed(event)
    assert mixed.points(mixed.last_ns) == plain.points(plain.last_ns)
    assert plain.malformed == 0


@given(tellings(), st.integers())
@settings(max_examples=100, deadline=None)
def test_counters_never_fall(events: list[StoredEvent], seed: int) -> None:
    """At no moment does a counter, or a bucket, show less than before, or vanish; a sum begins before its end."""
    fold, before = MeasureFold(), dict[object, Point]()
    for event in shuffled(events, seed):
        fold.feed(event)
        now = {_place(point): point for point in fold.points(fold.last_ns) if point.kind in {"counter", "histogram"}}
        for place, point in before.items():
            if point.name != "process.cpu.time":  # a number that is given again is that of who had it last
                assert now[place].value >= point.value
                assert now[place].start_ns == point.start_ns <= now[place].time_ns
            if point.spread is not None:
                later = now[place].spread
                assert later is not None
                assert all(after >= now for after, now in zip(later.buckets, point.spread.buckets, strict=True))
                assert later.count == sum(later.buckets)
        before = now


def _place(point: Point) -> object:
    return point.writer, point.name, tuple(sorted(point.attributes.items()))
