from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from eventflow.errors import UsageError
from eventflow.log.runs import RunInfo
from eventflow.measuring_events import MetricMeasured
from eventflow.source import fingerprint
from eventflow.vocabulary import RequestCompleted, RequestQueued, RunStarted
from instrumentation.otlp.metric_settings import HONOURED, MetricSettings, Temporality, read_metric_settings
from instrumentation.otlp.metrics import MetricProjection
from instrumentation.otlp.scope import SCOPE
from instrumentation.otlp.settings import read_settings
from tests.told_events import SECOND, SPAN, START, TRACE, Told

INFO = RunInfo(run="r", stage="loop", created="2026-11-28T00:00:00+00:00")


def resource(writer: str) -> Resource:
    """What a process is."""
    return Resource({"service.instance.id": writer})


def projection(settings: MetricSettings | None = None, info: RunInfo = INFO) -> MetricProjection:
    """One that has been fed nothing."""
    return MetricProjection(info, resource, settings or MetricSettings())


def counted(value: float, buckets: tuple[int, ...] = (), *, traced: bool = True) -> MetricMeasured:
    """Measurements of a counter, or of a histogram if there are buckets."""
    return MetricMeasured(
        name="size" if buckets else "pages",
        kind="histogram" if buckets else "counter",
        unit="By" if buckets else "{page}",
        count=sum(buckets) or 1,
        sum=value,
        min=value,
        max=value,
        last=value,
        boundaries=(10.0,) if buckets else (),
        buckets=buckets,
        max_trace_id=TRACE if traced else "",
        max_span_id=SPAN if traced else "",
    )


def metric(data: MetricsData | None, name: str, writer: str | None = None) -> Metric | None:
    """The metric of that name, of one process."""
    assert data is not None
    for group in data.resource_metrics:
        if writer in {None, group.resource.attributes["service.instance.id"]}:
            for found in group.scope_metrics[0].metrics:
                if found.name == name:
                    return found
    return None


def numbers(data: MetricsData | None, name: str) -> list[tuple[int | float, int]]:
    """What the points of a metric show, and the seconds from their start to their end."""
    found = metric(data, name)
    assert found is not None
    return [
        (point.value, (point.time_unix_nano - point.start_time_unix_nano) // SECOND)
        for point in found.data.data_points
        if isinstance(point, NumberDataPoint)
    ]


def spread_of(data: MetricsData | None) -> HistogramDataPoint:
    """The only point of the histogram."""
    found = metric(data, "size")
    assert found is not None
    (point,) = found.data.data_points
    assert isinstance(point, HistogramDataPoint)
    return point


def fed(made: MetricProjection, told: Told, since: int = 0) -> MetricProjection:
    """Fed what was told since then."""
    for event in told.events[since:]:
        made.feed(event)
    return made


def test_points_become_the_data_of_the_sdk() -> None:
    """A resource for each process, one scope, a metric for each instrument, and the SDK's encoder takes it all."""
    told = Told()
    told.say("main", "run", RunStarted(stage="loop", workers=3))
    told.say("main", "request-0", RequestQueued(number=0, url="https://h.example", name="n"), at=2)
    told.say("worker", "m", counted(5.0), counted(5.0, (1, 0)), at=3)
    data = fed(projection(), told).data()
    assert data is not None
    assert [dict(one.resource.attributes) for one in data.resource_metrics] == [
        {"service.instance.id": "main"},
        {"service.instance.id": "worker"},
    ]
    assert {scoped.scope for one in data.resource_metrics for scoped in one.scope_metrics} == {SCOPE}
    kinds = [("pages", Sum), ("size", Histogram), ("eventflow.run.workers", Gauge), ("eventflow.requests", Sum)]
    for name, kind in kinds:
        found = metric(data, name)
        assert found is not None
        assert isinstance(found.data, kind)
    requests = metric(data, "eventflow.requests")
    assert requests is not None
    assert isinstance(requests.data, Sum)
    assert not requests.data.is_monotonic
    assert len(requests.data.data_points) == 5
    assert (requests.unit, (requests.description or "")[:8]) == ("{request}", "Requests")
    assert numbers(data, "eventflow.events") == [(2, 3)]
    encoded = encode_metrics(data)
    assert sum(len(scoped.metrics) for one in encoded.resource_metrics for scoped in one.scope_metrics) == sum(
        len(scoped.metrics) for one in data.resource_metrics for scoped in one.scope_metrics
    )


def test_a_histogram_keeps_its_buckets() -> None:
    """Boundaries, counts and extremes are those of the events."""
    told = Told()
    told.say("a", "m", counted(5.0, (1, 0)), counted(50.0, (0, 1)))
    point = spread_of(fed(projection(), told).data())
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([10.0], [1, 1])
    assert (point.count, point.sum, point.min, point.max) == (2, 55.0, 5.0, 50.0)


def test_delta_gives_each_measurement_once() -> None:
    """A point has what came since the last; what nothing came to is left out; extremes are the interval's."""
    told, made = Told(), projection(MetricSettings(temporality="delta"))
    told.say("a", "m", counted(5.0), counted(5.0, (1, 0)))
    first = fed(made, told).data()
    told.say("a", "m", counted(2.0), counted(60.0, (0, 1)), at=7)
    second = fed(made, told, 2).data()
    told.say("a", "run", RunStarted(stage="loop", workers=3), at=9)
    third = fed(made, told, 4).data()
    told.say("a", "m", counted(1.0), at=11)
    fourth = fed(made, told, 5).data()
    assert [numbers(data, "pages") for data in (first, second, fourth)] == [[(5.0, 0)], [(2.0, 7)], [(1.0, 4)]]
    assert metric(third, "pages") is None
    point = spread_of(second)
    assert (point.count, point.sum, list(point.bucket_counts), point.min, point.max) == (1, 60.0, [0, 1], 60.0, 60.0)
    assert metric(third, "size") is None
    found = metric(second, "pages")
    assert found is not None
    assert isinstance(found.data, Sum)
    assert found.data.aggregation_temporality is AggregationTemporality.DELTA
    workers = metric(third, "eventflow.requests")
    assert workers is not None
    assert isinstance(workers.data, Sum)
    assert workers.data.aggregation_temporality is AggregationTemporality.CUMULATIVE


def test_lowmemory_is_delta_for_what_was_measured_only() -> None:
    """What is read from time to time, as the SDK's observable instruments, stays cumulative."""
    told, made = Told(), projection(MetricSettings(temporality="lowmemory"))
    told.say("a", "m", counted(5.0))
    fed(made, told).data()
    told.say("a", "m", counted(2.0), at=4)
    data = fed(made, told, 1).data()
    assert numbers(data, "pages") == [(2.0, 4)]
    assert numbers(data, "eventflow.events") == [(2, 4)]


@pytest.mark.parametrize(
    ("choice", "expected"), [("trace_based", [5.0]), ("always_on", [5.0, 20.0]), ("always_off", [])]
)
def test_exemplars_are_those_that_the_filter_lets_through(choice: str, expected: Sequence[float]) -> None:
    """By default those that point to a trace."""
    told = Told()
    told.say("a", "m", counted(5.0, (1, 0)), at=1)
    told.say("a", "m", counted(20.0, (0, 1), traced=False), at=2)
    settings = read_metric_settings({"OTEL_METRICS_EXEMPLAR_FILTER": choice})
    made = fed(projection(settings), told)
    exemplars = spread_of(made.data()).exemplars
    assert [one.value for one in exemplars] == expected
    if exemplars:
        assert exemplars[0].trace_id == int(TRACE, 16)
        assert exemplars[0].span_id == int(SPAN, 16)
        assert exemplars[0].time_unix_nano == START + SECOND
    assert spread_of(made.data()).exemplars == []


def test_it_is_due_by_the_time_of_events() -> None:
    """Intervals are counted from the first event on, so that a past run gives the same points as a live one."""
    told, made, moments = Told(), projection(), []
    for at in (0, 4, 9, 12, 13, 35, 36, 41):
        told.say("a", "m", counted(1.0), at=at)
        made.feed(told.events[-1])
        if made.due(told.events[-1].time):
            made.data()
            moments.append(at)
    assert moments == [12, 35, 41]


def test_the_same_events_give_the_same_data() -> None:
    """A process that begins anew after a crash is fed all events again, and gives the same again."""
    told = Told()
    told.say("a", "run", RunStarted(stage="loop", workers=3))
    for at in range(40):
        told.say("a", "m", counted(at), counted(at, (1, 0)), at=at)

    def given() -> list[MetricsData | None]:
        made = projection(MetricSettings(temporality="delta"))
        found = []
        for event in told.events:
            made.feed(event)
            if made.due(event.time):
                found.append(made.data())
        return [*found, made.data()]

    assert given() == given()
    assert len(given()) == 4


def test_a_process_that_ended_is_given_once_more() -> None:
    """Then never again: who asks later sees those that live."""
    told, made = Told(), projection()
    told.say("old", "run", RunStarted(stage="loop", workers=3))
    told.say("old", "m", counted(1.0))
    told.say("new", "run", RunStarted(stage="loop", workers=3, resumed=True), at=5)
    first = fed(made, told).data()
    assert metric(first, "pages", "old") is not None
    told.say("new", "m", counted(1.0), at=6)
    second = fed(made, told, 3).data()
    assert second is not None
    assert [one.resource.attributes["service.instance.id"] for one in second.resource_metrics] == ["new"]


def test_before_the_first_event_there_is_nothing() -> None:
    """No data, rather than empty data."""
    assert projection().data() is None


def test_the_length_of_the_input_is_known_from_its_file(tmp_path: Path) -> None:
    """As long as the file is what it was: then the time that is left is estimated."""
    source = tmp_path / "urls.txt"
    source.write_text("https://h.example/1\n" * 10)
    size, modified = fingerprint(source)
    settings = {"source": str(source), "source_size": size, "source_mtime_ns": modified}
    info = RunInfo(run="r", stage="loop", created="", settings=settings)
    told = Told()
    told.say("a", "run", RunStarted(stage="loop", workers=3))
    told.say("a", "request-0", RequestQueued(number=0, url="https://h.example", name="n"))
    told.say("a", "request-0", RequestCompleted(name="n", bytes=1, seconds=1), at=1)
    assert metric(fed(projection(info=info), told).data(), "eventflow.run.remaining") is not None
    source.write_text("https://h.example/1\n")
    assert metric(fed(projection(info=info), told).data(), "eventflow.run.remaining") is None


def test_the_environment_is_read() -> None:
    """Every variable that is honoured changes what it should; blanks and case do not matter."""
    assert read_metric_settings({}) == MetricSettings(10.0, "cumulative", "trace_based")
    environ = {
        "OTEL_METRIC_EXPORT_INTERVAL": " 2500 ",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "LowMemory",
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "explicit_bucket_histogram",
    }
    assert read_metric_settings(environ) == MetricSettings(2.5, "lowmemory", "always_off")
    settings = read_settings(environ)
    assert settings is not None
    assert settings.metrics == MetricSettings(2.5, "lowmemory", "always_off")
    assert {name for honoured in HONOURED for name in honoured.name.split(", ")} >= environ.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "ten"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "maybe"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: str) -> None:
    """In one line that names the variable and says what it may hold."""
    with pytest.raises(UsageError, match=name) as raised:
        read_metric_settings({name: value})
    assert "\n" not in str(raised.value)


def test_what_is_not_exported_is_not_read() -> None:
    """A variable of metrics changes nothing without metrics, and one of log records nothing without those."""
    wrong = {"OTEL_METRIC_EXPORT_INTERVAL": "ten", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "many"}
    assert read_settings(wrong | {"OTEL_METRICS_EXPORTER": "none"}) is not None
    with pytest.raises(UsageError, match="OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT"):
        read_settings(wrong | {"OTEL_METRICS_EXPORTER": "none"}, logs=True)


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_who_goes_on_for_another_skips_what_that_gave(temporality: Temporality) -> None:
    """Of sums since the last time only the new ones are given; of those since the beginning all, so none is missed."""
    told, made = Told(), projection(MetricSettings(temporality=temporality))
    told.say("old", "run", RunStarted(stage="loop", workers=3))
    told.say("old", "m", counted(5.0, traced=True))
    fed(made, told)
    made.skip()
    told.say("new", "run", RunStarted(stage="loop", workers=3, resumed=True), at=5)
    told.say("new", "m", counted(2.0), at=5)
    data = fed(made, told, 2).data()
    given = {writer: metric(data, "pages", writer) for writer in ("old", "new")}
    assert given["new"] is not None
    assert (given["old"] is None) == (temporality == "delta")
    if given["old"] is not None:
        assert [point.exemplars for point in given["old"].data.data_points] == [[]]
