"""What the tests of OTLP stand on: the faulty collector as the SDK's exporters meet it, Jaeger's answers, trees."""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.conftest import require_part
from tests.support import faulty_collector
from tests.support.collector import Collector
from tests.support.faulty_collector import Fault, FaultyCollector, Key
from tests.support.jaeger import Jaeger
from tests.support.trees import TreeSpan, render_trees
from tests.transporting import certificate

TAKEN, REFUSED = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
EXPORTERS: dict[str, Callable[[FaultyCollector], SpanExporter]] = {
    "http": lambda server: HttpExporter(endpoint=f"{server.http}/v1/traces", timeout=5),
    "grpc": lambda server: GrpcExporter(endpoint=server.grpc, insecure=True, timeout=5),
}


def make_spans(service: str = "support", instance: str = "one") -> list[ReadableSpan]:
    """Two traces: a request with two attempts, of which one failed, and another that links to the first."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": service, "service.instance.id": instance}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("support")
    with tracer.start_as_current_span("request") as request:
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as failed:
            failed.set_attribute("http.response.status_code", 503)
            failed.set_status(Status(StatusCode.ERROR, "gone"))
        before = [Link(failed.get_span_context())]
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, links=before) as attempt:
            attempt.set_attribute("http.response.status_code", 200)
            attempt.add_event("body.read")
    tracer.start_span("request", links=[Link(request.get_span_context()), Link(failed.get_span_context())]).end()
    return list(kept.get_finished_spans())


TREES = """\
request
  GET (client) [error: gone] {http.response.status_code=503}
  GET (client) {http.response.status_code=200} <body.read> -> request/GET
request -> other:request, other:request/GET"""


def key(span: ReadableSpan) -> Key:
    """What tells it from every other."""
    context = span.get_span_context()
    assert context
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


@pytest.mark.parametrize("protocol", EXPORTERS)
@pytest.mark.parametrize(
    ("fault", "result", "requests", "taken", "rejected"),
    [
        ("TAKE", TAKEN, 1, [1, 1, 1, 1], 0),
        ("BUSY", TAKEN, 2, [1, 1, 1, 1], 0),
        ("UNAVAILABLE", TAKEN, 2, [1, 1, 1, 1], 0),
        ("BAD_REQUEST", REFUSED, 1, [], 0),
        ("PARTIAL", TAKEN, 1, [1, 1, 1], 1),
        ("CLOSED_BEFORE", TAKEN, 1, [1, 1, 1, 1], 0),
        ("CLOSED_UNTAKEN", TAKEN, 2, [1, 1, 1, 1], 0),
        ("CLOSED_TAKEN", TAKEN, 2, [2, 2, 2, 2], 0),
    ],
)
def test_a_fault_is_what_it_says(
    fault: str, result: SpanExportResult, requests: int, taken: list[int], rejected: int, protocol: str
) -> None:
    """The SDK's exporters meet it, and what the server took is counted: once, twice, or not at all."""
    spans = make_spans()
    with FaultyCollector([getattr(faulty_collector, fault)]) as server:
        exporter = EXPORTERS[protocol](server)
        assert exporter.export(spans) is result
        exporter.shutdown()
    received = server.received
    assert received.requests["traces"] == requests
    assert sorted(received.taken.values()) == taken
    assert received.rejected.total() == rejected
    assert set(received.taken) | set(received.rejected) == ({key(span) for span in spans} if taken else set())
    assert all(len(contents) == 1 for contents in received.contents.values())


@pytest.mark.parametrize("fault", ["GARBAGE", "CUT", "TOO_LARGE"])
def test_a_fault_over_http(fault: str) -> None:
    """An answer that is no message, one that is cut, and 413, which means something else over gRPC."""
    with FaultyCollector([getattr(faulty_collector, fault)]) as server:
        exporter = EXPORTERS["http"](server)
        result = exporter.export(make_spans())
        exporter.shutdown()
    assert result is (TAKEN if fault == "GARBAGE" else REFUSED)
    assert server.received.taken.total() == (0 if fault == "TOO_LARGE" else 4)


@pytest.mark.parametrize("protocol", EXPORTERS)
def test_a_slow_server_and_one_that_is_down(protocol: str) -> None:
    """It takes its time; down, it refuses connections, old ones too; up again, it listens where it was."""
    spans = make_spans()
    server = FaultyCollector([Fault(seconds=0.5)])
    exporter = EXPORTERS[protocol](server)
    with server:
        began = time.monotonic()
        assert exporter.export(spans) is TAKEN
        assert time.monotonic() - began >= 0.5
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.http, timeout=1)
    with server:
        assert exporter.export(spans) is TAKEN
    exporter.shutdown()
    assert sorted(server.received.taken.values()) == [2, 2, 2, 2]


@pytest.mark.part("openssl")
def test_a_server_that_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain HTTP to a TLS port fails, and so does TLS whose certificate nobody vouches for; nothing is taken."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers them to what the exporter is told
        monkeypatch.delenv(name, raising=False)
    with FaultyCollector(tls=certificate(tmp_path)[0]) as server:
        for endpoint in (server.http, server.http.replace("https", "http")):
            exporter = HttpExporter(endpoint=f"{endpoint}/v1/traces", timeout=1)
            assert exporter.export(make_spans()) is REFUSED
            exporter.shutdown()
        trusting = HttpExporter(endpoint=f"{server.http}/v1/traces", certificate_file=str(tmp_path / "it.pem"))
        assert trusting.export(make_spans()) is TAKEN
        trusting.shutdown()
    assert server.received.taken.total() == 4


def test_every_byte_is_kept() -> None:
    """What was sent is kept, heads and decompressed bodies, so that a test can look for what must not be there."""
    with FaultyCollector() as server:
        headers = {"x-marked": "in-a-head"}
        gzip = Compression.Gzip
        over_http = HttpExporter(endpoint=f"{server.http}/v1/traces", headers=headers, compression=gzip)
        over_grpc = GrpcExporter(endpoint=server.grpc, insecure=True, headers=headers)
        for number, exporter in enumerate((over_http, over_grpc)):
            exporter.export(make_spans(f"in-a-body-{number}"))
            exporter.shutdown()
    heads, bodies = b"".join(server.received.heads), b"".join(server.received.bodies)
    assert [heads.count(b"in-a-head"), bodies.count(b"in-a-body-0"), bodies.count(b"in-a-body-1")] == [2, 1, 1]


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """One for all tests; each has a service of its own in it."""
    with Jaeger(require_part("jaeger"), tmp_path_factory.mktemp("jaeger")) as running:
        yield running


def send(spans: list[ReadableSpan], endpoint: str) -> None:
    """To Jaeger, or a collector, over gRPC."""
    exporter = GrpcExporter(endpoint=endpoint, insecure=True)
    assert exporter.export(spans) is TAKEN
    exporter.shutdown()


@pytest.mark.part("jaeger")
def test_whole_traces_come_back_from_jaeger(jaeger: Jaeger) -> None:
    """Names, kinds, states, attributes, events and links, those to other traces too, as one text."""
    send(make_spans("whole"), jaeger.otlp)
    spans = jaeger.wait_spans("whole", 4)
    assert render_trees(spans) == TREES
    assert {span.resource["service.instance.id"] for span in spans} == {"one"}
    assert "whole" in jaeger.services()
    assert jaeger.spans("nobody") == []


@pytest.mark.part("jaeger")
def test_jaeger_shows_once_what_has_the_same_bytes(jaeger: Jaeger) -> None:
    """A span that is sent twice is kept twice and shown once; with another resource it is shown twice.

    This makes sending again harmless, and is why nothing about the sending process may be in a span or its resource.
    """
    spans = make_spans("twice")
    send(spans, jaeger.otlp)
    send(spans, jaeger.otlp)
    assert len(jaeger.spans_kept("twice")) == 8
    assert render_trees(jaeger.spans("twice")) == TREES
    for span in spans:
        span._resource = Resource({"service.name": "twice", "service.instance.id": "two"})
    send(spans, jaeger.otlp)
    assert len(jaeger.spans("twice")) == 8


@pytest.mark.part("jaeger", "otelcol")
def test_a_faulty_server_may_stand_before_the_collector(jaeger: Jaeger, tmp_path: Path) -> None:
    """It forwards what it takes, so that faults and the real backend can be had together."""
    with (
        Collector(require_part("otelcol"), tmp_path / "collector", jaeger=jaeger.otlp) as collector,
        FaultyCollector([faulty_collector.UNAVAILABLE], forward=collector.http) as server,
    ):
        exporter = EXPORTERS["http"](server)
        assert exporter.export(make_spans("forwarded")) is TAKEN
        exporter.shutdown()
        assert render_trees(jaeger.wait_spans("forwarded", 4)) == TREES


def test_trees_are_the_same_in_any_order() -> None:
    """The order in which spans come does not show; a span without its parent, and a link to nowhere, do."""
    span = TreeSpan("t", "1", "", "root", "internal", "", "", 0, 9, {}, (), (), {})
    spans = [
        span,
        span._replace(span_id="2", parent_id="1", name="second", start_ns=2, links=(("t", "3"), ("x", "9"))),
        span._replace(span_id="3", parent_id="1", name="first", start_ns=1),
        span._replace(trace_id="u", span_id="4", parent_id="5", name="lost"),
    ]
    expected = "(orphan) lost\nroot\n  first\n  second -> other:unknown, root/first"
    assert render_trees(spans) == render_trees(reversed(spans)) == expected
