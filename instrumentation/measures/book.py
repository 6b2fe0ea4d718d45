"""What one process has said that can be counted: sums and amounts by instrument and attributes, and measurements.

Invariants:
    what a counter shows never falls;
    an instrument has at most `SERIES_MAX` sets of attributes: what comes beyond is counted together, with the attribute
    `otel.metric.overflow`.
"""

from bisect import bisect_left
from collections.abc import Iterator

from eventflow.event import StoredEvent
from eventflow.measuring_events import MetricMeasured
from eventflow.metrics import OVERFLOW, SERIES_MAX
from instrumentation.measures.instruments import DESCRIPTIONS, EVENTS, LOST, TABLE, Instrument
from instrumentation.measures.point import Exemplar, Key, Number, Point, Spread, key_of

_OVERFLOW: Key = tuple(OVERFLOW.items())
_PLACES = {instrument.name: place for place, instrument in enumerate(TABLE)}
_INFINITY = float("inf")


class Series:
    """The measurements of one instrument with one set of attributes, summed up since the process began."""

    def __init__(self, measured: MetricMeasured) -> None:
        self.name, self.kind, self.unit = measured.name, measured.kind, measured.unit
        self.attributes, self.boundaries = measured.attributes, measured.boundaries
        self.count, self.total, self.last = 0, 0.0, 0.0
        self.min, self.max = _INFINITY, -_INFINITY
        self.recent_min, self.recent_max = _INFINITY, -_INFINITY
        self.buckets = [0] * (len(measured.boundaries) + 1)
        self.exemplars: dict[int, Exemplar] = {}

    def take(self, measured: MetricMeasured, time_ns: int) -> None:
        """Some measurements more."""
        self.count += measured.count
        self.total += measured.sum
        self.last = measured.last
        self.min, self.max = min(self.min, measured.min), max(self.max, measured.max)
        self.recent_min, self.recent_max = min(self.recent_min, measured.min), max(self.recent_max, measured.max)
        for place, number in enumerate(measured.buckets or (measured.count,)):
            self.buckets[place] += number
        self._keep(measured, time_ns)

    def begin_interval(self) -> None:
        """What is shown of the time since the last interval is over."""
        self.exemplars.clear()
        self.recent_min, self.recent_max = _INFINITY, -_INFINITY

    def point(self, writer: str, start_ns: int, time_ns: int) -> Point:
        """What it shows."""
        is_histogram = self.kind == "histogram"
        value = 0 if is_histogram else self.last if self.kind == "gauge" else self.total
        return Point(
            name=self.name,
            kind=self.kind,
            unit=self.unit,
            description=DESCRIPTIONS.get(self.name, ""),
            attributes=self.attributes,
            writer=writer,
            start_ns=start_ns,
            time_ns=time_ns,
            value=value,
            spread=self._spread() if is_histogram else None,
            exemplars=tuple(self.exemplars[place] for place in sorted(self.exemplars)),
        )

    def _spread(self) -> Spread:
        is_quiet = self.recent_min > self.recent_max
        return Spread(
            count=self.count,
            sum=self.total,
            min=self.min,
            max=self.max,
            boundaries=self.boundaries,
            buckets=tuple(self.buckets),
            recent_min=self.min if is_quiet else self.recent_min,
            recent_max=self.max if is_quiet else self.recent_max,
        )

    def _keep(self, measured: MetricMeasured, time_ns: int) -> None:
        trace_id, span_id = measured.max_trace_id, measured.max_span_id
        place = bisect_left(self.boundaries, measured.max)
        kept = self.exemplars.get(place)
        if kept is None or (bool(trace_id), measured.max) >= (bool(kept.trace_id), kept.value):
            self.exemplars[place] = Exemplar(measured.max, time_ns, trace_id, span_id)


class Book:
    """What is known of one process.

    Attributes:
        start_ns: when it recorded its first event.
        seq: the place of the last event that was taken.
        pid: its number, where it told of itself.
        received: by stream, how much of a body has been counted that is not all there yet.
        failed: the streams whose last attempt failed.
    """

    def __init__(self, event: StoredEvent) -> None:
        self.writer, self.start_ns = event.writer, event.time
        self.seq = -1
        self.pid: int | None = None
        self.received: dict[str, int] = {}
        self.failed: set[str] = set()
        self._amounts: dict[str, dict[Key, Number]] = {LOST.name: {(): 0}}
        self._series: dict[tuple[object, ...], Series] = {}

    def add(self, instrument: Instrument, key: Key = (), amount: Number = 1) -> None:
        """So much more."""
        amounts, key = self._place(instrument, key)
        amounts[key] = amounts.get(key, 0) + amount

    def set(self, instrument: Instrument, key: Key, amount: Number) -> None:
        """It is so much now."""
        amounts, key = self._place(instrument, key)
        amounts[key] = amount

    def raise_to(self, instrument: Instrument, key: Key, amount: Number) -> None:
        """It is so much by now, or as much as it was if that is more."""
        amounts, key = self._place(instrument, key)
        amounts[key] = max(amounts.get(key, amount), amount)

    def measure(self, measured: MetricMeasured, time_ns: int) -> None:
        """Measurements through `eventflow.metrics`.

        Raises:
            ValueError: the buckets are not those of the boundaries.
        """
        if len(measured.buckets) != (len(measured.boundaries) + 1 if measured.boundaries else 0):
            raise ValueError(f"{measured.name} has {len(measured.buckets)} buckets")
        attributes = key_of(measured.attributes)
        key = (measured.name, measured.kind, measured.unit, measured.boundaries, attributes)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(measured)
        series.take(measured, time_ns)

    def begin_interval(self) -> None:
        """See `MeasureFold.begin_interval`."""
        for series in self._series.values():
            series.begin_interval()

    def points(self, time_ns: int, *, is_current: bool) -> Iterator[Point]:
        """What it shows; of one whose sitting is over only what it counted, since nothing is so any more.

        In the order of the table, then those of users by name; of one instrument by attributes.
        """
        start_ns = min(self.start_ns, time_ns)
        yield self.point(EVENTS, (), self.seq + 1, time_ns)
        for instrument in TABLE:
            if is_current or instrument.kind == "counter":
                amounts = self._amounts.get(instrument.name, {})
                for key in sorted(amounts, key=repr):
                    yield self.point(instrument, key, amounts[key], time_ns)
        for place in sorted(self._series, key=_place_of):
            series = self._series[place]
            if is_current or series.kind in {"counter", "histogram"}:
                yield series.point(self.writer, start_ns, time_ns)

    def point(self, instrument: Instrument, key: Key, value: Number, time_ns: int) -> Point:
        """A point of this process."""
        return Point(
            name=instrument.name,
            kind=instrument.kind,
            unit=instrument.unit,
            description=instrument.description,
            attributes=dict(key),
            writer=self.writer,
            start_ns=min(self.start_ns, time_ns),
            time_ns=time_ns,
            value=value,
            is_read=True,
        )

    def _place(self, instrument: Instrument, key: Key) -> tuple[dict[Key, Number], Key]:
        amounts = self._amounts.setdefault(instrument.name, {})
        return amounts, key if key in amounts or len(amounts) < SERIES_MAX else _OVERFLOW


def _place_of(key: tuple[object, ...]) -> tuple[int, str]:
    return _PLACES.get(str(key[0]), len(_PLACES)), repr(key)
