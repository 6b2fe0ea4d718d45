"""Metric points as the SDK's data, for its exporters: nothing of its meters and readers is used.

Points are made at moments of the run's own time, those of its events: so a run that is over gives the same points as
one that goes on, and a process that begins anew gives them again. It need only be fed all events from the first on, and
told to `skip` whatever was due before.

Invariants:
    the same events and settings give the same data;
    a process that has ended is in the data once more after its last event, and then never again;
    with `delta`, what was given is never given again: the sum over all data is what was counted.
"""

from collections.abc import Callable

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    DataT,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from eventflow.event import StoredEvent
from eventflow.log.runs import RunInfo
from eventflow.request import expected_requests
from instrumentation.measures import MeasureFold, Point
from instrumentation.otlp.deltas import Deltas
from instrumentation.otlp.metric_settings import MetricSettings
from instrumentation.otlp.scope import SCOPE

_CUMULATIVE, _DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA
_DEFAULT = MetricSettings()


class MetricProjection:
    """The metrics of a run, for an exporter.

    Feed it every event, in any order of writers, and whenever `due` says so, export `data()`; and at the end.

    Args:
        info: the run's. Its input is counted, if it is a file that is still what it was, for the time that is left.
        resource: the resource of a process, by its writer.
        settings: how often, and in what form.
    """

    def __init__(
        self,
        info: RunInfo,
        resource: Callable[[str], Resource],
        settings: MetricSettings = _DEFAULT,
    ) -> None:
        self._fold = MeasureFold(expected_requests(info.settings))
        self._resource, self._settings = resource, settings
        self._interval_ns = int(settings.interval_seconds * 1e9)
        self._begin_ns = self._next_ns = 0
        self._given: dict[str, int] = {}
        self._deltas = Deltas() if settings.temporality != "cumulative" else None
        self.feed: Callable[[StoredEvent], None] = self._fold.feed

    def due(self, time_ns: int) -> bool:
        """Whether an interval is over at that time, the time of an event that was fed."""
        if time_ns < self._next_ns:
            return False
        if not self._begin_ns:
            self._begin_ns, self._next_ns = time_ns, time_ns + self._interval_ns
            return False
        return True

    def data(self) -> MetricsData | None:
        """What there is to show now, at the time of the last event. None if there is nothing.

        The next interval begins: call it once for each export, and send the same again if that fails.
        """
        now = self._begin_next()
        by_writer: dict[str, list[Point]] = {}
        for point in self._fold.points(now):
            by_writer.setdefault(point.writer, []).append(point)
        found: list[ResourceMetrics] = []
        for writer, points in by_writer.items():
            if not self._has_news(writer):
                continue
            shown = points if self._deltas is None else [*self._deltas.of(points, self._is_delta)]
            if shown:
                found.append(self._of_process(writer, shown))
        self._fold.begin_interval()
        return MetricsData(found) if found else None

    def skip(self) -> None:
        """What is due was given before, by a process that this one goes on for: begin the next interval.

        Sums since the beginning are given again all the same, those of processes that ended too.
        """
        if self._deltas is not None:
            self.data()
            return
        self._begin_next()
        self._fold.begin_interval()

    def _begin_next(self) -> int:
        """The next interval begins; gives the time now, that of the last event."""
        now = self._fold.last_ns
        begin = self._begin_ns or now
        self._begin_ns, self._next_ns = begin, now + self._interval_ns - (now - begin) % self._interval_ns
        return now

    def _has_news(self, writer: str) -> bool:
        seq = self._fold.seq(writer)
        is_known = self._given.get(writer) == seq
        self._given[writer] = seq
        return not is_known or self._fold.lives(writer)

    def _is_delta(self, point: Point) -> bool:
        if point.kind not in {"counter", "histogram"}:
            return False
        return self._settings.temporality == "delta" or not point.is_read

    def _of_process(self, writer: str, points: list[Point]) -> ResourceMetrics:
        resource = self._resource(writer)
        by_instrument: dict[tuple[str, str, str], list[Point]] = {}
        for point in points:
            by_instrument.setdefault((point.name, point.kind, point.unit), []).append(point)
        metrics = [self._metric(group) for group in by_instrument.values()]
        return ResourceMetrics(resource, [ScopeMetrics(SCOPE, metrics, "")], resource.schema_url)

    def _metric(self, points: list[Point]) -> Metric:
        first = points[0]
        return Metric(first.name, first.description, first.unit, self._data(points))

    def _data(self, points: list[Point]) -> DataT:
        is_delta = self._deltas is not None and self._is_delta(points[0])
        temporality = _DELTA if is_delta else _CUMULATIVE
        match points[0].kind:
            case "histogram":
                return Histogram([self._histogram(point, is_delta=is_delta) for point in points], temporality)
            case "gauge":
                return Gauge([self._number(point) for point in points])
            case kind:
                return Sum([self._number(point) for point in points], temporality, kind == "counter")

    def _number(self, point: Point) -> NumberDataPoint:
        return NumberDataPoint(
            attributes=point.attributes,
            start_time_unix_nano=point.start_ns,
            time_unix_nano=point.time_ns,
            value=point.value,
            exemplars=self._exemplars(point),
        )

    def _histogram(self, point: Point, *, is_delta: bool) -> HistogramDataPoint:
        spread = point.spread
        assert spread is not None
        return HistogramDataPoint(
            attributes=point.attributes,
            start_time_unix_nano=point.start_ns,
            time_unix_nano=point.time_ns,
            count=spread.count,
            sum=spread.sum,
            bucket_counts=spread.buckets,
            explicit_bounds=spread.boundaries,
            min=spread.recent_min if is_delta else spread.min,
            max=spread.recent_max if is_delta else spread.max,
            exemplars=self._exemplars(point),
        )

    def _exemplars(self, point: Point) -> list[Exemplar]:
        if self._settings.exemplars == "always_off":
            return []
        return [
            Exemplar(
                filtered_attributes={},
                value=one.value,
                time_unix_nano=one.time_ns,
                span_id=int(one.span_id, 16) if one.span_id else None,
                trace_id=int(one.trace_id, 16) if one.trace_id else None,
            )
            for one in point.exemplars
            if one.trace_id or self._settings.exemplars == "always_on"
        ]
