"""What OTLP says of metrics, as numbers: the bytes that an exporter would send, read back."""

from collections.abc import Iterable
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.resources import Resource

from eventflow.event import StoredEvent
from eventflow.log.runs import RunInfo
from instrumentation.otlp.metric_settings import MetricSettings
from instrumentation.otlp.metrics import MetricProjection

INSTANCE = "service.instance.id"
Attributes = tuple[tuple[str, str], ...]
Numbers = dict[tuple[str, str, Attributes], Any]
"""By process, name and attributes (as text): a number, or count, sum, buckets and boundaries of a histogram."""


def sent_numbers(info: RunInfo, events: Iterable[StoredEvent], settings: MetricSettings | None = None) -> list[Numbers]:
    """All that is sent of a run, one for each export."""
    projection = MetricProjection(info, lambda writer: Resource({INSTANCE: writer}), settings or MetricSettings())
    found = []
    for event in events:
        projection.feed(event)
        if projection.due(event.time):
            found.append(read_back(projection.data()))
    return [*found, read_back(projection.data())]


def read_back(data: Any) -> Numbers:
    """What the bytes say."""
    found: Numbers = {}
    if data is None:
        return found
    for of_process in encode_metrics(data).resource_metrics:
        (writer,) = [one.value.string_value for one in of_process.resource.attributes if one.key == INSTANCE]
        for metric in of_process.scope_metrics[0].metrics:
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                place = (writer, metric.name, tuple(sorted((one.key, _text(one.value)) for one in point.attributes)))
                assert place not in found, place
                if metric.WhichOneof("data") == "histogram":
                    found[place] = (
                        point.count,
                        point.sum,
                        tuple(point.bucket_counts),
                        tuple(point.explicit_bounds),
                    )
                else:
                    found[place] = getattr(point, point.WhichOneof("value"))
    return found


def of(numbers: Numbers, name: str) -> dict[Attributes, Any]:
    """What one instrument shows by its attributes, of all processes together. Of a histogram only the sum."""
    found: dict[Attributes, Any] = {}
    for (_, other, attributes), value in numbers.items():
        if other == name:
            found[attributes] = found.get(attributes, 0) + (value[1] if isinstance(value, tuple) else value)
    return found


def value_of(numbers: Numbers, name: str, **attributes: str) -> Any:
    """The sum over processes of one series; 0 if it is not there."""
    wanted = set(attributes.values())
    return sum(value for key, value in of(numbers, name).items() if wanted <= {text for _, text in key})


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind != "bool_value" else str(value.bool_value).lower()
