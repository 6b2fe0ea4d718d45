"""What one span costs in the hot path: a request's events into a real log, against the SDK making the same spans.

Both tell the story of a request over a kept connection, which is eleven events and six spans, with links as the lineage
stage has them or without, as the director. The SDK's is written the way a person would write it, and is spared what
events have: links say no event, ids are its own.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link as OtelLink
from opentelemetry.trace import SpanContext, SpanKind, Tracer, set_span_in_context

from eventflow import vocabulary as said
from eventflow.event import Link
from eventflow.log.runs import create_run
from eventflow.origin_events import ConnectionTaken
from eventflow.recorder import Recorder
from instrumentation.traces.attributes import Put

Links = Callable[..., list[OtelLink] | None]
EXPORTED = "SDK spans, exported"
SPANS = 6
CHUNK = 300  # requests at a time, whose spans the SDK's queue has room for: with room or without, it is the hot path
URL, HOST, PORT, CONNECTION = "http://127.0.0.1:8080/files/000030.bin", "127.0.0.1", 8080, "b79e04e2-2"
NAME, SIZE, SHA256 = "000030.bin", 10_240, "e4fef4c6622328dec67ad9d0816315bf80b14c9d3fe8045c5018378895b794ee"


class Cost(NamedTuple):
    """Microseconds of a span: in the thread that makes it, and of processor time in all threads until it is away."""

    thread: float
    everything: float


def tell_events(recorder: Recorder, number: int, stage: Link, before: Link) -> None:
    """A request, as the director records it."""
    root = recorder.open_stream(f"request-{number}")
    root.record(said.RequestQueued(number=number, url=URL, name=NAME), stage)
    root.child().record(said.RequestStarted(wait_seconds=0.015))
    attempt = root.child()
    attempt.record(said.AttemptStarted(server_address=HOST, server_port=PORT))
    attempt.record(ConnectionTaken(connection=CONNECTION, requests=6, idle_seconds=0.001), before)
    attempt.record(said.AttemptSent(seconds=0.000_02))
    attempt.record(
        said.AttemptResponse(
            status=200, seconds=0.02, http_version="1.1", content_length=SIZE, content_type="application/octet-stream"
        )
    )
    attempt.child().record(said.AttemptBody(bytes=SIZE, seconds=0.000_01))
    attempt.record(said.AttemptCompleted(seconds=0.020_1))
    root.child().record(said.FileVerified(bytes=SIZE, sha256=SHA256, seconds=0.000_02, checks=("size",)))
    root.child().record(said.FileStored(name=NAME, bytes=SIZE, seconds=0.002))
    root.record(said.RequestCompleted(name=NAME, bytes=SIZE, seconds=0.022))


def make_spans(tracer: Tracer, number: int, other: SpanContext, links: Links) -> None:
    """The same with the SDK: names, kinds, attributes and links as eventflow's projection gives them.

    `other` is the span of the stage, and of who had the connection before.
    """
    about: Put = {"url.full": URL, "eventflow.request.number": number}
    request = tracer.start_span("request", context=Context(), attributes=about, links=links(other))
    inside, now = set_span_in_context(request), time.time_ns()
    queue = tracer.start_span("queue", context=inside, start_time=now - 15_000_000)
    queue.end()
    about = {"url.full": URL, "http.request.method": "GET", "server.address": HOST, "server.port": PORT}
    came_from = links(queue.get_span_context(), other)
    attempt = tracer.start_span("GET", context=inside, kind=SpanKind.CLIENT, attributes=about, links=came_from)
    attempt.set_attributes({"eventflow.connection.id": CONNECTION, "eventflow.connection.requests": 6})
    attempt.set_attribute("eventflow.attempt.sent_seconds", 0.000_02)
    attempt.set_attributes(
        {
            "http.response.status_code": 200,
            "network.protocol.version": "1.1",
            "eventflow.attempt.response_seconds": 0.02,
            "http.response.header.content-type": ("application/octet-stream",),
        }
    )
    below, now = set_span_in_context(attempt), time.time_ns()
    size = {"http.response.body.size": SIZE}
    tracer.start_span("body", context=below, attributes=size, start_time=now - 10_000).end()
    attempt.set_attribute("http.response.body.size", SIZE)
    attempt.end()
    about = {"eventflow.file.size": SIZE, "eventflow.file.sha256": SHA256, "eventflow.file.checks": ("size",)}
    came_from, now = links(attempt.get_span_context()), time.time_ns()
    verify = tracer.start_span("verify", context=inside, attributes=about, links=came_from, start_time=now - 20_000)
    verify.end()
    about = {"eventflow.file.name": NAME, "eventflow.file.size": SIZE}
    came_from, now = links(verify.get_span_context()), time.time_ns()
    tracer.start_span("store", context=inside, attributes=about, links=came_from, start_time=now - 2_000_000).end()
    request.set_attributes(about)
    request.end()


def _linked(*contexts: SpanContext) -> list[OtelLink] | None:
    return [OtelLink(context) for context in contexts]


def _unlinked(*_contexts: SpanContext) -> list[OtelLink] | None:
    return None


class _Discard(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def measure_costs(
    folder: Path, requests: int, rounds: int, endpoint: str | None, *, links: bool
) -> dict[str, list[Cost]]:
    """Each in turn, round after round. With an endpoint, the SDK exports there as well, beside discarding."""
    with ExitStack() as stack:
        run = create_run(folder, stage="benchmark")
        recorder = stack.enter_context(Recorder(run.log, run.run, links=links))
        stage = recorder.open_stream("run").record(said.StageStarted(stage="director", workers=1))
        before = recorder.open_stream("request-x").record(said.AttemptCompleted(seconds=0.02))
        subjects: dict[str, tuple[Callable[[int], None], Callable[[], object]]] = {
            "events, into the log": (lambda number: tell_events(recorder, number, stage, before), recorder.flush)
        }
        exporters: dict[str, SpanExporter] = {"SDK spans, discarded": _Discard()}
        if endpoint:
            exporters[EXPORTED] = OTLPSpanExporter(f"{endpoint}/v1/traces")
        for name, exporter in exporters.items():
            provider = TracerProvider()
            stack.callback(provider.shutdown)
            provider.add_span_processor(BatchSpanProcessor(exporter))
            subjects[name] = (_teller(provider.get_tracer("benchmark"), links=links), provider.force_flush)
        found: dict[str, list[Cost]] = {name: [] for name in subjects}
        for number in range(rounds + 1):
            for name, (tell, flush) in subjects.items():
                cost = _time(tell, flush, requests)
                if number:  # the first round does not count
                    found[name].append(cost)
    return found


def _teller(tracer: Tracer, *, links: bool) -> Callable[[int], None]:
    other, make_links = tracer.start_span("stage").get_span_context(), _linked if links else _unlinked
    return lambda number: make_spans(tracer, number, other, make_links)


def _time(tell: Callable[[int], None], flush: Callable[[], object], requests: int) -> Cost:
    """Of the chunks the median, since a neighbour of this machine that comes in between is no cost of a span."""
    chunks, cpu = [], time.process_time()
    for first in range(0, requests, CHUNK):
        begun, count = time.perf_counter(), min(CHUNK, requests - first)
        for number in range(first, first + count):
            tell(number)
        chunks.append((time.perf_counter() - begun) / (count * SPANS))
        flush()
    return Cost(statistics.median(chunks) * 1e6, (time.process_time() - cpu) / (requests * SPANS) * 1e6)


def middle(found: list[Cost]) -> Cost:
    """The medians."""
    return Cost(*(statistics.median(column) for column in zip(*found, strict=True)))
