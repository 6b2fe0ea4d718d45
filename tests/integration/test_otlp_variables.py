"""Each of OpenTelemetry's variables that is honoured, by what arrives at the collector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporting import Exporter
from tests.support.faulty_collector import Fault, FaultyCollector
from tests.synthetic_log import write_run

BASE = "OTEL_EXPORTER_OTLP_"


@pytest.fixture
def collector() -> Iterator[FaultyCollector]:
    """One that takes everything."""
    with FaultyCollector() as running:
        yield running


def sent(folder: Path, endpoint: str, **settings: str) -> dict[str, Any]:
    """Export a synthetic run; what the command says of it. `OTEL_SERVICE_NAME` is not set unless it is given."""
    exporter = Exporter(folder, endpoint, "", **settings)
    if "OTEL_SERVICE_NAME" not in settings:
        del exporter.environment["OTEL_SERVICE_NAME"]
    write_run(exporter.store, "serial", requests=20)
    done = exporter.run("export", "latest", "--to", "otlp")
    assert done.status == 0, done
    return done.result


def resources(collector: FaultyCollector) -> list[dict[str, str]]:
    """The resources of what arrived."""
    return [
        {attribute.key: attribute.value.string_value for attribute in spans.resource.attributes}
        for message in collector.received.messages["traces"]
        for spans in message.resource_spans
    ]


def test_the_common_endpoint_is_for_all_signals(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_EXPORTER_OTLP_ENDPOINT: traces and metrics, each at its path; log records when they are asked for."""
    result = sent(tmp_path, collector.http, OTEL_LOGS_EXPORTER="otlp")
    assert {signal for signal, messages in collector.received.messages.items() if messages} == {
        "traces",
        "metrics",
        "logs",
    }
    assert result["spans"] == len(collector.received.taken)


def test_each_signal_may_have_its_own(collector: FaultyCollector, tmp_path: Path) -> None:
    """…_METRICS_ENDPOINT: used as it is."""
    with FaultyCollector() as other:
        sent(tmp_path, collector.http, **{f"{BASE}METRICS_ENDPOINT": f"{other.http}/v1/metrics"})
        assert set(collector.received.requests) == {"traces"}
        assert set(other.received.requests) == {"metrics"}


@pytest.mark.parametrize("name", ["PROTOCOL", "TRACES_PROTOCOL"])
def test_grpc(collector: FaultyCollector, tmp_path: Path, name: str) -> None:
    """…_PROTOCOL=grpc, for all or for one signal."""
    sent(tmp_path, collector.grpc, OTEL_METRICS_EXPORTER="none", **{f"{BASE}{name}": "grpc"})
    assert collector.received.taken
    assert not collector.received.heads[0].startswith(b"POST /v1/traces HTTP/1.1")


@pytest.mark.parametrize("name", ["HEADERS", "TRACES_HEADERS"])
def test_headers(collector: FaultyCollector, tmp_path: Path, name: str) -> None:
    """…_HEADERS: with each request, decoded."""
    sent(tmp_path, collector.http, OTEL_METRICS_EXPORTER="none", **{f"{BASE}{name}": "x-key=a%20b,x-other=2"})
    head = collector.received.heads[0].lower()
    assert b"x-key: a b" in head
    assert b"x-other: 2" in head


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compression(collector: FaultyCollector, tmp_path: Path, compression: str) -> None:
    """…_COMPRESSION."""
    settings = {f"{BASE}COMPRESSION": compression, "OTEL_METRICS_EXPORTER": "none"}
    if compression == "gzip":
        sent(tmp_path, collector.http, **settings)
        assert collector.received.taken
    else:  # this collector cannot read it, but hears what it is
        exporter = Exporter(tmp_path, collector.http, "", **settings)
        write_run(exporter.store, "serial", requests=5)
        exporter.run("export", "latest", "--to", "otlp")
    assert f"content-encoding: {compression}".encode() in collector.received.heads[0].lower()


def test_timeout(tmp_path: Path) -> None:
    """…_TIMEOUT: an export that takes longer is given up, and tried again."""
    with FaultyCollector([Fault(seconds=3)]) as collector:
        sent(tmp_path, collector.http, OTEL_METRICS_EXPORTER="none", **{f"{BASE}TIMEOUT": "1"})
        assert collector.received.requests["traces"] >= 2


def test_resource_and_service(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME are laid over the resource of the run."""
    sent(tmp_path, collector.http, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.name=no")
    assert {resource["service.name"] for resource in resources(collector)} == {"no"}
    assert {resource["deployment.environment.name"] for resource in resources(collector)} == {"test"}
    assert all(resource["service.instance.id"] for resource in resources(collector))
    with FaultyCollector() as named:
        sent(tmp_path / "named", named.http, OTEL_RESOURCE_ATTRIBUTES="service.name=no", OTEL_SERVICE_NAME="crawler")
        assert {resource["service.name"] for resource in resources(named)} == {"crawler"}
    with FaultyCollector() as plain:
        sent(tmp_path / "plain", plain.http)
        assert {resource["service.name"] for resource in resources(plain)} == {"eventflow"}


def test_exporters(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_TRACES_EXPORTER=none leaves the traces out."""
    result = sent(tmp_path, collector.http, OTEL_TRACES_EXPORTER="none")
    assert set(collector.received.requests) == {"metrics"}
    assert result["spans"] == 0


def test_sampler(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_TRACES_SAMPLER and its argument: a share of the traces, whole."""
    result = sent(tmp_path, collector.http, OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="0.5")
    assert result["unsampled"] > 0
    assert result["spans"] == len(collector.received.taken)
    with FaultyCollector() as off:
        assert sent(tmp_path / "off", off.http, OTEL_TRACES_SAMPLER="always_off")["spans"] == 0
        assert off.received.requests["traces"] == 0


def test_batches(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_BSP_MAX_EXPORT_BATCH_SIZE: no request has more spans."""
    sent(tmp_path, collector.http, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="7")
    sizes = [
        sum(len(scope.spans) for spans in message.resource_spans for scope in spans.scope_spans)
        for message in collector.received.messages["traces"]
    ]
    assert max(sizes) <= 7
    assert sum(sizes) == len(collector.received.taken)


def test_disabled(collector: FaultyCollector, tmp_path: Path) -> None:
    """OTEL_SDK_DISABLED=true: nothing goes out, and the command says why."""
    exporter = Exporter(tmp_path, collector.http, "", OTEL_SDK_DISABLED="true")
    write_run(exporter.store, "serial", requests=2)
    done = exporter.run("export", "latest", "--to", "otlp")
    assert done.status == 2
    assert "OTEL_SDK_DISABLED" in done.errors
    assert not collector.received.requests
