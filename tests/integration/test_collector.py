"""The shipped collector between a sender and the real Jaeger: what it acknowledged arrives, whatever happens to it."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import require_part
from tests.support.collector import Collector
from tests.support.jaeger import Jaeger
from tests.support.running import Program, free_port, wait_for

pytestmark = pytest.mark.part("otelcol", "jaeger")
Key = tuple[str, str]
ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.otel.yml"


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """One for all tests; each has a service of its own in it."""
    with Jaeger(require_part("jaeger"), tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture
def make_collector(tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """`make_collector(jaeger, **settings)` makes one that is not started yet."""
    made: list[Collector] = []

    def make(jaeger: str, folder: Path | None = None, **settings: str) -> Collector:
        collector = Collector(
            require_part("otelcol"), folder or tmp_path / "collector", jaeger=jaeger, settings=settings
        )
        made.append(collector)
        return collector

    yield make
    for collector in made:
        collector.kill()


def post(url: str, body: bytes) -> int:
    """The status of the answer, 0 if there is none."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/x-protobuf"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Sender:
    """Sends exports and remembers those that were acknowledged. Nothing is sent twice but by `send_refused`."""

    def __init__(self, collector: Collector, service: str) -> None:
        self.collector, self.service, self.random = collector, service, Random(service)
        self.acknowledged: set[Key] = set()
        self.refused: list[tuple[bytes, set[Key]]] = []

    def send(self, spans: int = 20) -> int:
        """One export; the status that came back, 0 for none."""
        return self._send(*self._make(spans))

    def send_refused(self) -> None:
        """Send again what was refused, until it is taken."""
        waiting, self.refused = self.refused, []
        for body, keys in waiting:
            wait_for(lambda body=body, keys=keys: self._send(body, keys) == 200, what="still refused")  # type: ignore[misc]
        self.refused = []

    def _send(self, body: bytes, keys: set[Key]) -> int:
        status = post(f"{self.collector.http}/v1/traces", body)
        if status == 200:
            self.acknowledged |= keys
        else:
            self.refused.append((body, keys))
        return status

    def _make(self, count: int) -> tuple[bytes, set[Key]]:
        message, keys = ExportTraceServiceRequest(), set[Key]()
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = self.service
        scope, trace_id = resource.scope_spans.add(), self.random.randbytes(16)
        for number in range(count):
            span = scope.spans.add(trace_id=trace_id, span_id=self.random.randbytes(8), name=f"span {number}")
            span.start_time_unix_nano = 1_700_000_000_000_000_000 + number
            span.end_time_unix_nano = span.start_time_unix_nano + 1000
            span.attributes.add(key="padding").value.string_value = self.random.randbytes(50).hex()
            keys.add((span.trace_id.hex(), span.span_id.hex()))
        return message.SerializeToString(), keys


def assert_all_arrive_once(sender: Sender, jaeger: Jaeger) -> None:
    """Jaeger shows every acknowledged span, and each once."""
    found = [span.key for span in jaeger.wait_spans(sender.service, len(sender.acknowledged))]
    assert set(found) >= sender.acknowledged
    assert len(found) == len(set(found))


def test_what_was_acknowledged_survives_kills(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """Without Jaeger, killed with -9 five times with a full queue; when Jaeger is there, all of it is."""
    jaeger = Jaeger(require_part("jaeger"), tmp_path)
    collector = make_collector(jaeger.otlp)
    sender = Sender(collector, "killed")
    for _ in range(5):
        collector.start()
        assert [sender.send() for _ in range(20)] == [200] * 20
        collector.kill()
        assert sender.send() == 0
    with jaeger, collector:
        sender.send_refused()
        assert_all_arrive_once(sender, jaeger)


def test_a_kill_while_it_delivers_repeats_nothing(make_collector: Callable[..., Collector], jaeger: Jaeger) -> None:
    """Killed at moments when Jaeger may have a batch that the queue still holds: sent again, and shown once."""
    collector = make_collector(jaeger.otlp).start()
    sender = Sender(collector, "delivering")
    for pause in (0.0, 0.1, 0.2, 0.25, 0.3):
        for _ in range(20):
            assert sender.send(50) == 200
        time.sleep(pause)
        collector.kill()
        collector.start()
    assert_all_arrive_once(sender, jaeger)


def test_a_queue_that_is_full_refuses(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """At the limit of its queue it says so with 503, and senders try again: all of it arrives."""
    jaeger = Jaeger(require_part("jaeger"), tmp_path)
    collector = make_collector(jaeger.otlp, COLLECTOR_QUEUE_BYTES="600000").start()
    sender = Sender(collector, "full queue")
    answers = [sender.send(100) for _ in range(60)]
    assert set(answers) == {200, 503}
    assert collector.own_metrics()["otelcol_exporter_queue_size"] <= 600_000
    with jaeger:
        sender.send_refused()
        assert_all_arrive_once(sender, jaeger)
    assert len(sender.acknowledged) == 60 * 100


def test_a_disk_that_is_full_refuses(make_collector: Callable[..., Collector], jaeger: Jaeger, tmp_path: Path) -> None:
    """While there is no room, exports are refused with 503; when there is, they are taken, and all arrive."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        collector = make_collector(jaeger.otlp, folder).start()
        sender = Sender(collector, "full disk")
        assert sender.send() == 200
        assert_all_arrive_once(sender, jaeger)
        taken = folder / "taken by others"
        taken.write_bytes(b"\0" * len_free(folder))
        assert [sender.send(2000) for _ in range(10)] == [503] * 10
        taken.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        sender.send_refused()
        assert_all_arrive_once(sender, jaeger)
        assert len(sender.acknowledged) == 20_020
    finally:
        collector.kill()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def len_free(folder: Path) -> int:
    """How many bytes its file system has left."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def test_stopped_in_order_it_keeps_what_waits(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """SIGTERM, as `docker compose stop`: it ends at once and in order although Jaeger is away, and goes on later."""
    jaeger = Jaeger(require_part("jaeger"), tmp_path)
    collector = make_collector(jaeger.otlp).start()
    sender = Sender(collector, "stopped")
    assert [sender.send() for _ in range(20)] == [200] * 20
    began = time.monotonic()
    collector.stop()
    assert time.monotonic() - began < 15  # its stop_grace_period in docker-compose.otel.yml
    with jaeger, collector.start():
        assert_all_arrive_once(sender, jaeger)


def send_duration(collector: Collector) -> None:
    """A histogram of one request that took 0.3 s, with its trace as exemplar."""
    message = ExportMetricsServiceRequest()
    resource = message.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "measured"
    resource.resource.attributes.add(key="eventflow.run.id").value.string_value = "20261128-120000-5eed"
    metric = resource.scope_metrics.add().metrics.add(name="http.client.request.duration", unit="s")
    metric.histogram.aggregation_temporality = 2  # cumulative
    point = metric.histogram.data_points.add(count=1, sum=0.3, explicit_bounds=[0.25, 0.5], bucket_counts=[0, 1, 0])
    point.start_time_unix_nano, point.time_unix_nano = time.time_ns() - 1_000_000_000, time.time_ns()
    point.exemplars.add(as_double=0.3, time_unix_nano=time.time_ns(), trace_id=b"\1" * 16, span_id=b"\2" * 8)
    assert post(f"{collector.http}/v1/metrics", message.SerializeToString()) == 200


def test_metrics_are_there_for_prometheus(make_collector: Callable[..., Collector]) -> None:
    """A histogram arrives as OpenMetrics: with what the resource says as labels, and with the exemplar of a trace."""
    collector = make_collector("127.0.0.1:9").start()
    send_duration(collector)
    page = collector.metrics()
    assert page.endswith("# EOF\n")
    (bucket,) = (line for line in page.splitlines() if 'le="0.5"' in line)
    assert bucket.startswith("http_client_request_duration_seconds_bucket{")
    assert 'service_name="measured"' in bucket
    assert 'eventflow_run_id="20261128-120000-5eed"' in bucket
    assert f'trace_id="{"01" * 16}"' in bucket.partition(" # ")[2]


@pytest.mark.part("prometheus")
def test_prometheus_fetches_metrics_and_exemplars(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """The real one, with the shipped configuration and options: the run's labels, a way to a trace, the queue."""
    collector = make_collector("127.0.0.1:9").start()
    send_duration(collector)
    text = (ROOT / "otel" / "prometheus.yaml").read_text(encoding="utf-8")
    for port, own in (("8889", collector.prometheus), ("8888", collector.own)):
        text = text.replace(f"collector:{port}", own.split("/")[2])
    (tmp_path / "prometheus.yaml").write_text(text.replace("scrape_interval: 5s", "scrape_interval: 1s"))
    options: list[str] = msgspec.yaml.decode(COMPOSE.read_bytes())["services"]["prometheus"]["command"]
    address = f"127.0.0.1:{free_port()}"
    own_options = [f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/tsdb"]
    command = [str(require_part("prometheus")), *own_options, *options[2:], f"--web.listen-address={address}"]
    ready = f"http://{address}/-/ready"
    with Program(command, environment={}, log=tmp_path / "prometheus.log", ready_url=ready):

        def ask(what: str, **query: str) -> list[dict[str, Any]]:
            url = f"http://{address}/api/v1/{what}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                data = json.load(answer)["data"]
            found: list[dict[str, Any]] = data["result"] if isinstance(data, dict) else data
            return found

        def exemplars() -> list[dict[str, Any]]:
            now = time.time()
            name = "http_client_request_duration_seconds_bucket"
            return ask("query_exemplars", query=name, start=str(now - 100), end=str(now + 100))

        wait_for(lambda: bool(exemplars()), what="no exemplar")
        (series,) = exemplars()
        assert series["seriesLabels"]["eventflow_run_id"] == "20261128-120000-5eed"
        assert series["exemplars"][0]["labels"]["trace_id"] == "01" * 16
        wait_for(lambda: bool(ask("query", query="otelcol_exporter_queue_size")), what="nothing of its own")


def test_log_records_are_in_the_file_when_they_are_acknowledged(make_collector: Callable[..., Collector]) -> None:
    """A kill right after the answer loses none, nor does a new start: a JSON object a line, as OTLP has it."""
    collector = make_collector("127.0.0.1:9").start()
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add(event_name="request.completed")
    record.trace_id = b"\1" * 16
    assert post(f"{collector.http}/v1/logs", message.SerializeToString()) == 200
    collector.kill()
    (line,) = collector.log_records.read_text().splitlines()
    (found,) = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    assert (found["eventName"], found["traceId"]) == ("request.completed", "01" * 16)
    collector.start()
    assert post(f"{collector.http}/v1/logs", message.SerializeToString()) == 200
    assert collector.log_records.read_text() == f"{line}\n{line}\n"
