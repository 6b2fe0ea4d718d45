"""Measurements of your own: counters, gauges, histograms and timers, in the log of the run.

A measurement is an event; SQL (the view `metrics`), charts and OpenTelemetry are views of it. Names and units are those
of OpenTelemetry: dotted names, UCUM units (`s`, `By`, `{page}`). Instruments are made once, in a module, and used
anywhere: in a stage, an operation, a thread, a worker process.

>>> from eventflow import metrics
>>> pages = metrics.counter("pages.parsed", unit="{page}", description="Pages that were parsed.")
>>> sizes = metrics.histogram("page.size", unit="By", boundaries=(1_000, 10_000, 100_000))
>>> parsing = metrics.timer("page.parse.duration")
>>> with parsing.time({"kind": "html"}):
...     pages.add(1, {"kind": "html"})
...     sizes.record(5_120)

Measurements of one instrument with the same attributes within a second share an event, so that a million of them cost
a few hundred events. What that forces: they are kept in this process for up to a second, one lock for all; a thread
writes them out.

Invariants:
    a measurement costs less than 3 µs, and never waits for a disk;
    outside of a run nothing is kept and nothing fails, as with OpenTelemetry's API without its SDK;
    after the end of `recorded_by` every measurement is in the log; a process that is killed loses those of its last
    second;
    an instrument has at most `SERIES_MAX` sets of attributes in a process: what comes beyond is counted together, with
    the attribute `otel.metric.overflow`.

Of several runs in one process, measurements go to the one that began last and has not ended.
"""

import os
import re
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar

from eventflow.errors import StoreError, UsageError, name_of
from eventflow.measuring_events import Attributes, InstrumentKind, MetricMeasured
from eventflow.recorder import CURRENT, Recorder, Span
from eventflow.redaction import redact_url
from eventflow.vocabulary import RecorderDropped

__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "Timer",
    "UpDownCounter",
    "counter",
    "gauge",
    "histogram",
    "recorded_by",
    "timer",
    "up_down_counter",
]

INTERVAL_SECONDS = 1.0
SERIES_MAX = 2_000  # OpenTelemetry's cardinality limit
OVERFLOW: Attributes = {"otel.metric.overflow": True}
# The boundaries that OpenTelemetry gives to durations of requests in seconds, and to histograms of anything else.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DEFAULT = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.\-/]{0,254}")
_INFINITY = float("inf")
_TEXT_CHARACTERS_MAX = 1_000

Given = Mapping[str, str | int | float | bool]
InstrumentT = TypeVar("InstrumentT", bound="Instrument")


class Instrument:
    """What the five have in common: a name, a unit, and a series for each set of attributes."""

    kind: InstrumentKind = "gauge"

    def __init__(self, name: str, unit: str, description: str, boundaries: tuple[float, ...] = ()) -> None:
        self.name, self.unit, self.description, self.boundaries = name, unit, description, boundaries
        self._series: dict[frozenset[tuple[str, object]], Series] = {}
        self._plain = Series(self, {})

    def series(self, attributes: Given | None = None) -> "Series":
        """The series of these attributes, to keep where it is measured often: that saves finding it each time."""
        if not attributes:
            return self._plain
        key = frozenset(attributes.items())
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= SERIES_MAX:
                key, attributes = frozenset(OVERFLOW.items()), OVERFLOW
            found = self._series.setdefault(key, Series(self, attributes))
        return found


class Series:
    """An instrument with a set of attributes: what is measured is summed up in here, by run."""

    __slots__ = ("attributes", "instrument")

    def __init__(self, instrument: Instrument, attributes: Given) -> None:
        self.instrument = instrument
        self.attributes: Attributes = {_text(key): _attribute(value) for key, value in attributes.items()}

    def measure(self, value: float, span: Span | None = None) -> None:
        """Take one measurement, made in `span`, or in the current one if there is one.

        Raises:
            ValueError: it is infinite or not a number.
        """
        value = float(value)
        if not -_INFINITY < value < _INFINITY:
            raise ValueError(f"{self.instrument.name} cannot be {value}: measure a finite number")
        for book in _books[-1:]:
            book.take(self, value, span)


class Counter(Instrument):
    """Counts what only gets more: requests, bytes, errors."""

    kind: InstrumentKind = "counter"

    def add(self, amount: float = 1, attributes: Given | None = None) -> None:
        """Count `amount` more.

        Raises:
            ValueError: it is negative, infinite or not a number.
        """
        if amount < 0:
            raise ValueError(f"{self.name} only counts up, not by {amount}: use an up-down counter")
        self.series(attributes).measure(amount)


class UpDownCounter(Instrument):
    """Counts what comes and goes: connections open, requests in flight."""

    kind: InstrumentKind = "up_down_counter"

    def add(self, amount: float, attributes: Given | None = None) -> None:
        """Count `amount` more, or less.

        Raises:
            ValueError: it is infinite or not a number.
        """
        self.series(attributes).measure(amount)


class Gauge(Instrument):
    """Shows how much there is of what cannot be summed up: a temperature, a limit, the length of a queue."""

    def set(self, amount: float, attributes: Given | None = None) -> None:
        """It is `amount` now.

        Raises:
            ValueError: it is infinite or not a number.
        """
        self.series(attributes).measure(amount)


class Histogram(Instrument):
    """Keeps how amounts are spread: sizes, durations."""

    kind: InstrumentKind = "histogram"

    def record(self, amount: float, attributes: Given | None = None) -> None:
        """One more amount.

        Raises:
            ValueError: it is infinite or not a number.
        """
        self.series(attributes).measure(amount)


class Timer(Histogram):
    """A histogram of seconds, with a stopwatch."""

    @contextmanager
    def time(self, attributes: Given | None = None) -> Iterator[None]:
        """Measure how long the block takes, whether or not it fails."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.series(attributes).measure(time.perf_counter() - begun)


def counter(name: str, *, unit: str = "", description: str = "") -> Counter:
    """The counter of that name: it is made at the first call.

    Raises:
        UsageError: the name or the unit is none of OpenTelemetry's form, or something else has that name.
    """
    return _register(Counter(name, unit, description))


def up_down_counter(name: str, *, unit: str = "", description: str = "") -> UpDownCounter:
    """The up-down counter of that name. See `counter`."""
    return _register(UpDownCounter(name, unit, description))


def gauge(name: str, *, unit: str = "", description: str = "") -> Gauge:
    """The gauge of that name. See `counter`."""
    return _register(Gauge(name, unit, description))


def histogram(
    name: str, *, unit: str = "", description: str = "", boundaries: tuple[float, ...] = DEFAULT
) -> Histogram:
    """The histogram of that name; `boundaries` are the upper ends of its buckets. See `counter`."""
    return _register(Histogram(name, unit, description, _ascending(name, boundaries)))


def timer(name: str, *, description: str = "", boundaries: tuple[float, ...] = SECONDS) -> Timer:
    """The timer of that name, in seconds. See `counter`."""
    return _register(Timer(name, "s", description, _ascending(name, boundaries)))


@contextmanager
def recorded_by(recorder: Recorder) -> Iterator[None]:
    """Within, what this process measures goes to that recorder. Stages need not do this: their runs have."""
    book = _Book(recorder)
    _books.append(book)
    try:
        yield
    finally:
        with suppress(ValueError):  # a forked child has none
            _books.remove(book)
        book.close()


class _Totals:
    """The measurements of one series since its last event."""

    __slots__ = ("buckets", "count", "first", "greatest", "greatest_in", "last", "latest", "least", "total")

    def __init__(self, value: float, now: float, buckets: list[int] | None, span: Span | None) -> None:
        self.count, self.total = 1, value
        self.least = self.greatest = self.latest = value
        self.first = self.last = now
        self.greatest_in = span
        self.buckets = buckets


class _Book:
    """What one run has measured in this process and not yet recorded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._totals: dict[Series, _Totals] = {}
        self._levels: dict[Series, float] = {}
        self._span: Span | None = None
        self.failed = 0  # measurements that could not be recorded
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, series: Series, value: float, span: Span | None) -> None:
        """One measurement of a series."""
        now = time.perf_counter()
        with self._lock:
            totals = self._totals.get(series)
            if totals is None:
                boundaries = series.instrument.boundaries
                buckets = [0] * (len(boundaries) + 1) if boundaries else None
                totals = _Totals(value, now, buckets, span or CURRENT.get(None))
                self._totals[series] = totals
                if self._thread is None:
                    self._begin()
            else:
                totals.count += 1
                totals.total += value
                totals.latest, totals.last = value, now
                if value < totals.least:
                    totals.least = value
                elif value > totals.greatest:
                    totals.greatest, totals.greatest_in = value, span or CURRENT.get(None)
            if totals.buckets is not None:
                totals.buckets[bisect_left(series.instrument.boundaries, value)] += 1

    def write(self) -> None:
        """Record what was measured since the last time."""
        with self._lock:
            taken, self._totals = self._totals, {}
        failed = self.failed
        for series, totals in taken.items():
            try:
                self._record(series, totals)
            except StoreError:
                raise
            except Exception:  # noqa: BLE001  (the guard of this module: one bad series hides no other, and no run fails)
                self.failed += totals.count
        if self.failed > failed and self._span is not None:
            self._span.record(RecorderDropped(count=self.failed - failed))

    def close(self) -> None:
        """Record the rest. A log that cannot be written has told the run already."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(StoreError):
            self.write()

    def _record(self, series: Series, totals: _Totals) -> None:
        instrument = series.instrument
        if self._span is None:
            self._span = self._recorder.open_stream(f"metrics-{self._recorder.writer}")
        latest, span = totals.latest, totals.greatest_in
        if instrument.kind == "up_down_counter":
            latest = self._levels[series] = self._levels.get(series, 0.0) + totals.total
        self._span.record(
            MetricMeasured(
                name=instrument.name,
                kind=instrument.kind,
                unit=instrument.unit,
                attributes=series.attributes,
                count=totals.count,
                sum=totals.total,
                min=totals.least,
                max=totals.greatest,
                last=latest,
                seconds=totals.last - totals.first,
                boundaries=instrument.boundaries,
                buckets=tuple(totals.buckets or ()),
                max_trace_id=span.stream.trace_id if span is not None else "",
                max_span_id=span.span_id if span is not None else "",
            )
        )

    def _begin(self) -> None:
        thread = threading.Thread(target=self._write_now_and_then, name="eventflow-metrics", daemon=True)
        with suppress(RuntimeError):  # no thread can be had: then all is written at the end
            thread.start()
            self._thread = thread

    def _write_now_and_then(self) -> None:
        with suppress(StoreError):
            while not self._closing.wait(INTERVAL_SECONDS):
                self.write()


_instruments: dict[str, Instrument] = {}
_books: list[_Book] = []


def _register(made: InstrumentT) -> InstrumentT:
    if not _NAME.fullmatch(made.name):
        raise UsageError(
            f"{name_of(made.name)} cannot name an instrument",
            "begin with a letter and go on with letters, digits and _ . - /, 255 at most",
        )
    if not (made.unit.isascii() and len(made.unit) <= 63):
        raise UsageError(f"{name_of(made.unit)} cannot be a unit", "write it as UCUM does, 63 ASCII characters at most")
    found = _instruments.setdefault(made.name, made)
    if type(found) is not type(made) or (found.unit, found.boundaries) != (made.unit, made.boundaries):
        raise UsageError(f"{name_of(made.name)} is another instrument already", "give one of them another name or unit")
    return found


def _attribute(value: object) -> str | int | float | bool:
    """An attribute as the log can hold it: URLs lose their secrets, what is neither text nor a number is its text."""
    if isinstance(value, bool | int):
        return value if isinstance(value, bool) or abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if -_INFINITY < value < _INFINITY else str(value)
    return _text(value)


def _text(value: object) -> str:
    """What a person reads, in UTF-8 and not too long; a name of a file may hold bytes that are not."""
    text = str(value)[:_TEXT_CHARACTERS_MAX].encode(errors="backslashreplace").decode()
    return redact_url(text) if "://" in text else text


def _ascending(name: str, boundaries: tuple[float, ...]) -> tuple[float, ...]:
    given = tuple(map(float, boundaries))
    if not given or list(given) != sorted(set(given)) or not -_INFINITY < given[0] <= given[-1] < _INFINITY:
        raise UsageError(f"the boundaries of {name_of(name)} do not ascend", "give finite numbers, each once, in order")
    return given


def _after_fork_in_child() -> None:
    _books.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
