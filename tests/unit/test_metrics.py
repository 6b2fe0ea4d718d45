import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from eventflow import metrics
from eventflow.errors import UsageError
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.sql import query
from eventflow.measuring_events import MetricMeasured
from eventflow.recorder import Recorder
from eventflow.vocabulary import RecorderDropped, decode_payload

PAGES = metrics.counter("test.pages", unit="{page}")
OPEN = metrics.up_down_counter("test.open", unit="{connection}")
LIMIT = metrics.gauge("test.limit")
SIZES = metrics.histogram("test.size", unit="By", boundaries=(10, 100))
PARSING = metrics.timer("test.duration")


@pytest.fixture
def run(store: Path) -> RunFolder:
    """A run without events."""
    return create_run(store, stage="serial")


@contextmanager
def recording(run: RunFolder) -> Iterator[Recorder]:
    """What is measured within goes to this run."""
    with Recorder(run.log, run.run) as recorder, metrics.recorded_by(recorder):
        yield recorder


def measured(run: RunFolder) -> list[MetricMeasured]:
    """The measurements in the log."""
    payloads = map(decode_payload, read_events(run.log))
    return [payload for payload in payloads if isinstance(payload, MetricMeasured)]


def test_a_measurement_is_an_event(run: RunFolder) -> None:
    """One measurement is one event, with its name, unit and attributes, in a stream of its process."""
    with recording(run) as recorder:
        PAGES.add(2, {"kind": "pdf", "pages": 7})
    (event,) = [event for event in read_events(run.log) if event.type == "metric.measured"]
    assert event.stream == f"metrics-{recorder.writer}"
    (payload,) = measured(run)
    assert (payload.name, payload.kind, payload.unit) == ("test.pages", "counter", "{page}")
    assert payload.attributes == {"kind": "pdf", "pages": 7}
    assert (payload.count, payload.sum, payload.min, payload.max, payload.last) == (1, 2, 2, 2, 2)


def test_many_measurements_share_an_event(run: RunFolder) -> None:
    """What is measured within a second is one event for each set of attributes, and none is lost."""
    with recording(run):
        for number in range(10_000):
            PAGES.add(1, {"even": number % 2 == 0})
    payloads = measured(run)
    assert len(payloads) <= 2 * (1 + 30)  # 30 s would be a very slow machine
    assert sum(payload.count for payload in payloads) == sum(payload.sum for payload in payloads) == 10_000


def test_they_are_in_the_log_within_about_a_second(run: RunFolder) -> None:
    """While the process goes on, measurements do not wait for its end."""
    with recording(run) as recorder:
        PAGES.add(1)
        until = time.monotonic() + 20
        while not measured(run) and time.monotonic() < until:
            time.sleep(0.05)
            recorder.flush()
        assert len(measured(run)) == 1


def test_a_histogram_has_buckets(run: RunFolder) -> None:
    """A value on a boundary is in the bucket that it ends, and one above all in the last."""
    with recording(run):
        for size in (1, 10, 11, 100, 5000):
            SIZES.record(size)
    (payload,) = measured(run)
    assert (payload.boundaries, payload.buckets) == ((10, 100), (2, 2, 1))
    assert (payload.sum, payload.min, payload.max) == (5122, 1, 5000)


def test_an_up_down_counter_knows_where_it_stands(run: RunFolder) -> None:
    """`last` is the level, over several events; `sum` what was added in this one."""
    with recording(run):
        OPEN.add(5)
        OPEN.add(-2)
        metrics._books[-1].write()
        OPEN.add(1)
    first, second = measured(run)
    assert (first.sum, first.last, second.sum, second.last) == (3, 3, 1, 4)


def test_a_gauge_keeps_the_last_value(run: RunFolder) -> None:
    """And how low and high it was meanwhile."""
    with recording(run):
        for value in (5, 1, 9, 4):
            LIMIT.set(value)
    (payload,) = measured(run)
    assert (payload.last, payload.min, payload.max, payload.count) == (4, 1, 9, 4)


def test_a_timer_measures_failures_too(run: RunFolder) -> None:
    """The block's time counts whether or not it raises, and what it raises comes out."""
    with recording(run):
        with PARSING.time():
            time.sleep(0.01)
        with pytest.raises(KeyError), PARSING.time():
            raise KeyError
    (payload,) = measured(run)
    assert (payload.count, payload.unit) == (2, "s")
    assert 0.01 <= payload.max < 10


def test_outside_of_a_run_nothing_happens(run: RunFolder) -> None:
    """Code that measures works the same without a run, and what it measured is nowhere."""
    PAGES.add(1)
    with recording(run):
        pass
    PAGES.add(1)
    assert measured(run) == []


def add_many() -> None:
    """Two thousand measurements."""
    for _ in range(2_000):
        PAGES.add(1)


def test_threads_lose_nothing(run: RunFolder) -> None:
    """Eight threads that measure the same instrument at once are counted exactly."""
    with recording(run):
        threads = [threading.Thread(target=add_many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(payload.sum for payload in measured(run)) == 16_000


def test_attributes_beyond_the_limit_are_counted_together(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded when somebody makes an attribute of every URL; the sum is still right."""
    monkeypatch.setattr(metrics, "SERIES_MAX", 3)
    many = metrics.counter("test.many")
    with recording(run):
        for number in range(10):
            many.add(1, {"number": number})
    payloads = measured(run)
    assert len(payloads) == 4
    assert [payload.sum for payload in payloads if "otel.metric.overflow" in payload.attributes] == [7]


def test_secrets_in_attributes_are_redacted(run: RunFolder) -> None:
    """An attribute that holds a URL is treated as every URL is."""
    with recording(run):
        PAGES.add(1, {"url": "https://me:secret@example.org/a?token=hidden"})
    data = b"".join(bytes(event.data) for event in read_events(run.log))
    assert b"example.org" in data
    assert b"secret" not in data
    assert b"hidden" not in data


def test_an_odd_attribute_hides_no_other(run: RunFolder) -> None:
    """What JSON or UTF-8 cannot hold is kept as the text that it can be, and all else is there as well."""
    odd: dict[str, Any] = {"file": "caf\udce9.txt", "part": Fraction(1, 3), "far": 10**30, "none": float("nan")}
    with recording(run):
        PAGES.add(1, odd)
        PAGES.add(Fraction(1, 2), {"kind": "pdf"})  # type: ignore[arg-type]
    first, second = measured(run)
    assert first.attributes == {"file": "caf\\udce9.txt", "part": "1/3", "far": str(10**30), "none": "nan"}
    assert second.sum == 0.5


def test_a_measurement_that_cannot_be_recorded_is_counted(run: RunFolder) -> None:
    """A sum that overflows, or an event that is too long, is no event; the others are, and the log says how many."""
    with recording(run):
        PAGES.add(1, {f"{number:04}" + "x" * 900: "y" * 1_000 for number in range(600)})
        LIMIT.set(4)
        book = metrics._books[-1]
    assert [payload.name for payload in measured(run)] == ["test.limit"]
    assert book.failed == 1
    lost = [payload for payload in map(decode_payload, read_events(run.log)) if isinstance(payload, RecorderDropped)]
    assert [payload.count for payload in lost] == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused(run: RunFolder, value: float) -> None:
    """It is an error where it is measured, not a hole in the log."""
    with recording(run), pytest.raises(ValueError, match="measure a finite number"):
        LIMIT.set(value)
    assert measured(run) == []


def test_a_counter_only_counts_up() -> None:
    """What may go down has an instrument of its own, and the message says which."""
    with pytest.raises(ValueError, match="up-down counter"):
        PAGES.add(-1)


def test_a_name_has_one_meaning() -> None:
    """The same instrument is given to all who ask for it; another kind or unit under its name is refused."""
    assert metrics.counter("test.pages", unit="{page}") is PAGES
    for other in (
        lambda: metrics.gauge("test.pages", unit="{page}"),
        lambda: metrics.counter("test.pages", unit="By"),
        lambda: metrics.histogram("test.size", unit="By", boundaries=(10, 1000)),
    ):
        with pytest.raises(UsageError, match="another instrument already"):
            other()


@pytest.mark.parametrize("name", ["", "1st", "a b", "x" * 256, "é"])
def test_names_are_those_of_opentelemetry(name: str) -> None:
    """A name that OpenTelemetry would refuse is refused at once, not at an export."""
    with pytest.raises(UsageError, match="cannot name an instrument"):
        metrics.counter(name)


@pytest.mark.parametrize("boundaries", [(), (2, 1), (1, 1), (1, float("inf"))])
def test_boundaries_ascend(boundaries: tuple[float, ...]) -> None:
    """Buckets have one order and finite ends."""
    with pytest.raises(UsageError, match="do not ascend"):
        metrics.histogram("test.unmade", boundaries=boundaries)


def test_a_forked_child_measures_nothing(run: RunFolder) -> None:
    """The log is its parent's: a child that was only forked neither writes to it nor fails."""
    with recording(run):
        PAGES.add(1)
        child = os.fork()
        if not child:
            try:
                PAGES.add(100)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert [payload.sum for payload in measured(run)] == [1]


def test_they_can_be_asked_in_sql(run: RunFolder) -> None:
    """The view has them, with attributes as text."""
    with recording(run):
        PAGES.add(3, {"kind": "pdf", "large": True})
        SIZES.record(50)
    pages, sizes = query(run, "SELECT name, unit, attributes['kind'], sum, buckets FROM metrics ORDER BY name")
    assert pages == ("test.pages", "{page}", "pdf", 3.0, [])
    assert sizes == ("test.size", "By", None, 50.0, [0, 1, 0])
