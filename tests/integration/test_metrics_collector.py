"""Metrics and log records arrive at the real collector, and come out of it as Prometheus and JSON have them."""

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource

from eventflow.log.runs import RunInfo
from eventflow.measuring_events import MetricMeasured, ProcessReading, ProcessSampled
from eventflow.vocabulary import (
    AttemptBody,
    AttemptCompleted,
    AttemptStarted,
    ProcessStarted,
    RequestCompleted,
    RequestQueued,
    RunStarted,
)
from instrumentation.otlp.logs import log_records
from instrumentation.otlp.metrics import MetricProjection
from tests.told_events import SPAN, TRACE, Told

pytestmark = pytest.mark.part("otelcol")
CONFIG = """
receivers:
  otlp: {protocols: {http: {endpoint: "127.0.0.1:%(otlp)d"}}}
exporters:
  prometheus:
    endpoint: "127.0.0.1:%(prometheus)d"
    enable_open_metrics: true
    resource_to_telemetry_conversion: {enabled: true}
  file: {path: "%(logs)s"}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    metrics: {receivers: [otlp], exporters: [prometheus]}
    logs: {receivers: [otlp], exporters: [file]}
"""
WITHIN_S = 30.0
INFO = RunInfo(run="r", stage="loop", created="2026-11-28T00:00:00+00:00")
LABELS = 'http_request_method="GET",server_address="h.example",server_port="443"'
_LINE = re.compile(r"^(\w+)\{([^}]*)\} (\S+)(?: # (.*))?$", re.MULTILINE)
_TYPE = re.compile(r"^# TYPE (\w+) (\w+)$", re.MULTILINE)
_NOT_MINE = ("instance=", "job=", "otel_scope_", "service_")
EXPECTED = {
    ("eventflow_requests", 'eventflow_request_state="completed"'): 1,
    ("eventflow_requests", 'eventflow_request_state="failed"'): 0,
    ("eventflow_files_size_bytes", ""): 512,
    ("eventflow_body_received_bytes_total", ""): 512,
    ("eventflow_attempts_total", 'eventflow_attempt_outcome="completed"'): 1,
    ("eventflow_events_total", ""): 9,
    ("eventflow_events_lost_total", ""): 0,
    ("eventflow_run_workers", ""): 3,
    ("eventflow_run_memory_usage_bytes", 'eventflow_memory_kind="pss"'): 1 << 20,
    ("eventflow_run_cpu_time_seconds_total", ""): 2,
    ("http_client_active_requests", 'server_address="h.example",server_port="443"'): 0,
    ("http_client_request_duration_seconds_bucket", f'{LABELS},le="0.25"'): 0,
    ("http_client_request_duration_seconds_bucket", f'{LABELS},le="0.5"'): 1,
    ("http_client_request_duration_seconds_count", LABELS): 1,
    ("http_client_request_duration_seconds_sum", LABELS): 0.3,
    ("process_cpu_time_seconds_total", 'cpu_mode="user"'): 1.5,
    ("process_cpu_time_seconds_total", 'cpu_mode="system"'): 0.5,
    ("process_memory_usage_bytes", 'eventflow_memory_kind="pss"'): 1 << 20,
    ("process_thread_count", ""): 3,
    ("process_unix_file_descriptor_count", ""): 9,
}


class Collector(NamedTuple):
    """Where it is reached, and where its log records go."""

    otlp: str
    prometheus: str
    logs: Path


@pytest.fixture
def collector(tmp_path: Path, part: Callable[[str], Path]) -> Iterator[Collector]:
    """A collector of its own for each test."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        otlp, prometheus = one.getsockname()[1], two.getsockname()[1]
    logs, config = tmp_path / "logs.json", tmp_path / "collector.yaml"
    config.write_text(CONFIG % {"otlp": otlp, "prometheus": prometheus, "logs": logs})
    with (tmp_path / "said").open("wb") as said:
        command = [str(part("otelcol")), f"--config={config}"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _listens(otlp) and _listens(prometheus))
        yield Collector(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{prometheus}/metrics", logs)
    finally:
        process.terminate()
        process.wait(timeout=WITHIN_S)


def wait_until(holds: Callable[[], bool]) -> None:
    """Until it does, or the test fails."""
    until = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until, "it did not come in time"
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def scraped(collector: Collector) -> dict[tuple[str, str], tuple[float, str]]:
    """What Prometheus gets: value and exemplar by name and labels, without those of the resource and the scope."""
    found = {}
    for name, labels, value, exemplar in _LINE.findall(_read(collector.prometheus)):
        mine = [label for label in labels.split(",") if not label.startswith(_NOT_MINE)]
        found[name, ",".join(mine)] = (float(value), exemplar)
    return found


def _read(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def a_run() -> Told:
    """One request, measured as a stage would."""
    told = Told()
    told.say("w", "run", RunStarted(stage="loop", workers=3), ProcessStarted(pid=7, role="main"))
    told.say("w", "request-0", RequestQueued(number=0, url="https://h.example/a", name="a"))
    told.say("w", "request-0", AttemptStarted(server_address="h.example", server_port=443), at=1)
    told.say("w", "request-0", AttemptBody(bytes=512, seconds=0.1), AttemptCompleted(seconds=0.3), at=1.3)
    told.say("w", "request-0", RequestCompleted(name="a", bytes=512, seconds=1.3), at=1.3)
    reading = ProcessReading(7, 1 << 20, 2.0, 3, 0, 9, 1.5, 0.5)
    sample = ProcessSampled(
        memory_bytes=1 << 20, memory_kind="pss", cpu_seconds=2, processes=(reading,), sampling_seconds=0
    )
    told.say("w", "run", sample, at=2)
    duration = MetricMeasured(
        name="http.client.request.duration",
        kind="histogram",
        unit="s",
        attributes={"http.request.method": "GET", "server.address": "h.example", "server.port": 443},
        sum=0.3,
        min=0.3,
        max=0.3,
        last=0.3,
        boundaries=(0.25, 0.5),
        buckets=(0, 1, 0),
        max_trace_id=TRACE,
        max_span_id=SPAN,
    )
    told.say("w", "metrics-w", duration, at=2)
    return told


def resource(writer: str) -> Resource:
    """What the process is."""
    return Resource({"service.name": "eventflow", "service.instance.id": writer})


def test_the_points_arrive_with_the_names_and_units_of_prometheus(collector: Collector) -> None:
    """Counters end in _total, units are spelled out, levels are gauges, an exemplar points to the trace."""
    projection = MetricProjection(INFO, resource)
    for event in a_run().events:
        projection.feed(event)
    exporter = OTLPMetricExporter(endpoint=f"{collector.otlp}/v1/metrics")
    data = projection.data()
    assert data is not None
    assert exporter.export(data) is MetricExportResult.SUCCESS
    exporter.shutdown()
    lines = scraped(collector)
    assert {place: value for place, (value, _) in lines.items() if place in EXPECTED} == EXPECTED
    assert lines["http_client_request_duration_seconds_bucket", f'{LABELS},le="0.5"'][1].startswith(
        f'{{trace_id="{TRACE}",span_id="{SPAN}"}} 0.3 '
    )
    types = dict(_TYPE.findall(_read(collector.prometheus)))
    assert types["eventflow_events"] == types["process_cpu_time_seconds"] == "counter"
    assert types["eventflow_requests"] == types["process_memory_usage_bytes"] == "gauge"
    assert types["http_client_request_duration_seconds"] == "histogram"


def test_events_arrive_as_log_records(collector: Collector) -> None:
    """Each with its name, time, severity, span and attributes."""
    told = a_run()
    exporter = OTLPLogExporter(endpoint=f"{collector.otlp}/v1/logs")
    assert exporter.export(log_records(told.events, resource)) is LogRecordExportResult.SUCCESS
    exporter.shutdown()
    wait_until(lambda: collector.logs.exists() and collector.logs.read_bytes().endswith(b"\n"))
    (line,) = collector.logs.read_text().splitlines()
    (of_process,) = json.loads(line)["resourceLogs"]
    records = of_process["scopeLogs"][0]["logRecords"]
    assert [record["eventName"] for record in records] == [event.type for event in told.events]
    assert [int(record["timeUnixNano"]) for record in records] == [event.time for event in told.events]
    (completed,) = [record for record in records if record["eventName"] == "request.completed"]
    assert (completed["traceId"], completed["spanId"], completed["flags"]) == (TRACE, SPAN, 1)
    assert completed["severityNumber"] == 9
    attributes = {one["key"]: one["value"] for one in completed["attributes"]}
    assert attributes["eventflow.event.data.bytes"] == {"intValue": "512"}
    assert attributes["eventflow.event.data.seconds"] == {"doubleValue": 1.3}
    assert attributes["eventflow.event.stream"] == {"stringValue": "request-0"}
