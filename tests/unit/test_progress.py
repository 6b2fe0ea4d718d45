"""The tally: a fold over the log that gives the same answer in any order of writers."""

import random

import msgspec
import pytest

from eventflow.event import Event, Payload
from eventflow.log.format import decode_event
from eventflow.measuring_events import ProcessReading, ProcessSampled
from eventflow.progress import FAILURES_KEPT_MAX, RequestState, Tally, request_number
from eventflow.vocabulary import (
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

UUID = "01a2087f-7a22-7201-9ebf-ec1123af1f82"


def line(stream: str, version: int, payload: Payload, time: int = 1, writer: str = "w") -> bytes:
    """One event line."""
    return msgspec.json.encode(Event(UUID, payload.TYPE, time, "r", stream, version, writer, 0, "t", "s", payload))


def story(number: int, *ends: Payload) -> list[bytes]:
    """A request's lines."""
    begin = (RequestQueued(number=number, url="u", name="n"), RequestStarted(wait_seconds=0.0))
    return [line(f"request-{number}", version, payload) for version, payload in enumerate((*begin, *ends))]


def test_each_request_counts_once_in_its_last_state_whatever_the_order() -> None:
    """A resumed run has a request's events in several writers' logs, read in any order."""
    lines = (
        story(0, RequestCompleted(name="n", bytes=10, seconds=1.0))
        + story(1, RequestFailed(error="E", message="m", seconds=1.0), RequestStarted(wait_seconds=0.0))
        + story(2, RequestFailed(error="E", message="m", seconds=1.0))
        + story(3, RequestCancelled(seconds=1.0), RequestCompleted(name="n", bytes=5, seconds=1.0))
        + story(4)
        + story(9, RequestCancelled(seconds=1.0))
    )
    for seed in range(50):
        random.Random(seed).shuffle(lines)
        tally = Tally()
        tally.feed(lines)
        assert (tally.requests, tally.completed, tally.failed, tally.cancelled, tally.bytes) == (6, 2, 1, 1, 15)
        assert tally.state(1) is RequestState.STARTED
        assert tally.state(7) is RequestState.UNSEEN
        assert tally.completed_bytes(3) == 5
        assert tally.completed_bytes(2) is None
        assert list(tally.failures) == [2]
        assert tally.events == len(lines)


def test_an_event_that_is_decoded_counts_as_its_line() -> None:
    """Whoever has decoded events need not encode them again; what was lost counts by number, and a place is known."""
    lines = [
        line("run", 0, RunStarted(stage="serial", workers=1)),
        *story(0, RequestCompleted(name="n", bytes=10, seconds=1.0)),
        *story(3, RequestFailed(error="E", message="m", seconds=1.0)),
        line("run", 1, RecorderDropped(count=4)),
        line("run", 2, RunCompleted()),
    ]
    fed, taken = Tally(), Tally()
    fed.feed(lines)
    for each in lines:
        taken.take(decode_event(each))
    for tally in (fed, taken):
        assert (tally.counts, tally.bytes, tally.events, tally.run_state) == (fed.counts, 10, len(lines), "completed")
        assert tally.events_lost == 4
        assert [tally.version(number) for number in (0, 1, 3, 100)] == [2, -1, 2, -1]


def test_only_the_first_failures_are_kept() -> None:
    """Memory does not grow with the number of failures."""
    tally = Tally()
    for number in range(100):
        tally.feed(story(number, RequestFailed(error="E", message="m", seconds=1.0)))
    assert tally.failed == 100
    assert len(tally.failures) == FAILURES_KEPT_MAX


def test_samples_give_the_peak_and_the_cpu_of_all_sittings() -> None:
    """The peak is the highest sum; CPU is the last reading of each sitting, added up."""

    def sample(memory: int, cpu: float, writer: str) -> bytes:
        readings = (ProcessReading(1, memory, cpu, 1),)
        payload = ProcessSampled(
            memory_bytes=memory, memory_kind="pss", cpu_seconds=cpu, processes=readings, sampling_seconds=0.001
        )
        return line("run", 0, payload, writer=writer)

    tally = Tally()
    tally.feed([sample(100, 1.0, "a"), sample(300, 2.0, "a"), sample(200, 4.0, "b")])
    assert (tally.peak_memory_bytes, tally.memory_kind, tally.cpu_seconds, tally.processes_max) == (300, "pss", 6.0, 1)


def test_the_state_of_a_run_is_its_last_run_event() -> None:
    """Interrupted, then resumed and completed."""
    started, interrupted = (
        line("run", 0, RunStarted(stage="s", workers=1)),
        line("run", 5, RunInterrupted(signal="SIGINT")),
    )
    again, completed = line("run", 6, RunStarted(stage="s", workers=1, resumed=True)), line("run", 9, RunCompleted())
    for lines, state in (
        ([], "running"),
        ([interrupted, started], "interrupted"),
        ([again, interrupted, started], "running"),
    ):
        tally = Tally()
        tally.feed(lines)
        assert tally.run_state == state
    tally = Tally()
    tally.feed([completed, again, started])
    assert tally.run_state == "completed"


@pytest.mark.parametrize(
    ("stream", "number"), [("request-0", 0), ("request-17", 17), ("run", None), ("request-", None), ("17", None)]
)
def test_the_number_of_a_request_is_in_its_stream(stream: str, number: int | None) -> None:
    """And only in a request's stream."""
    assert request_number(stream) == number
