"""eventflow's command line, making spans with the OpenTelemetry SDK in place of events: `_tracing_sdk.py run ...`.

It is what a program does that is instrumented in the usual way: a TracerProvider, a BatchSpanProcessor with its usual
settings and the OTLP/HTTP exporter, all in the process that does the work. The spans are those that eventflow's
projection makes of the events of a request: the same names, kinds, parents and attributes, and run and stage. There is
no log. Not made is the span of an origin, of which there is one a run.

At its end it says on stderr, as a JSON object: how many spans it made by name, and how many were exported.
"""

import json
import runpy
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, set_span_in_context

from eventflow import vocabulary as said
from eventflow.event import Link, Payload
from eventflow.log.segment import LogWriter
from eventflow.origin_events import ConnectionOpened
from eventflow.recorder import Recorder, Span
from instrumentation.traces.attributes import LENT, PUTTERS, Put

_BEGUN = {said.RunStarted: "run", said.StageStarted: "stage", said.RequestQueued: "request", said.AttemptStarted: "GET"}
_AT_ONCE = {
    said.RequestStarted: "queue",
    ConnectionOpened: "connect",
    said.AttemptBody: "body",
    said.FileVerified: "verify",
    said.FileStored: "store",
}
_ENDS = frozenset((said.RequestCompleted, said.AttemptCompleted, said.StageCompleted, said.RunCompleted))


class _Open(NamedTuple):
    """A span that has begun, what its children begin in, and the URL that is fetched."""

    span: OtelSpan
    inside: Context
    url: str | None


class CountingExporter(OTLPSpanExporter):
    """The SDK's, which also counts what was taken."""

    exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, and count."""
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self.exported += len(spans)
        return result


class SpanRecorder:
    """In place of the recorder: a span for each piece of a story."""

    def __init__(self) -> None:
        self.exporter = CountingExporter()
        self.provider = TracerProvider(resource=Resource.create({"service.name": "eventflow"}))
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))
        self.made: Counter[str] = Counter()
        self._tracer = self.provider.get_tracer("eventflow")
        self._open: dict[str, _Open] = {}

    def take(self, span: Span, payload: Payload) -> None:
        """What the event says, as a span or as attributes of one."""
        kind = type(payload)
        put: Put = {}
        if (putter := PUTTERS.get(kind.TYPE)) is not None:
            putter(payload, put)
        if (name := _BEGUN.get(kind)) is not None:
            self._begin(span, payload, name, put)
        elif (name := _AT_ONCE.get(kind)) is not None:
            self._make(span, payload, name, put)
        elif (known := self._open.get(span.span_id)) is not None:
            if put:
                known.span.set_attributes(put)
            if kind in _ENDS:
                known.span.end()
                del self._open[span.span_id]

    def _begin(self, span: Span, payload: Payload, name: str, put: Put) -> None:
        above = self._open.get(span.parent_span_id or "")
        if isinstance(payload, said.AttemptStarted) and above is not None and above.url is not None:
            put["url.full"] = above.url
        made = self._tracer.start_span(
            name,
            context=above.inside if above else Context(),
            kind=SpanKind.CLIENT if isinstance(payload, said.AttemptStarted) else SpanKind.INTERNAL,
            attributes=put,
        )
        url = payload.url if isinstance(payload, said.RequestQueued) else None
        self._open[span.span_id] = _Open(made, set_span_in_context(made), url)
        self.made[name] += 1

    def _make(self, span: Span, payload: Any, name: str, put: Put) -> None:
        """A piece that is over when it is told."""
        above = self._open[span.parent_span_id or ""]
        if (lent := LENT.get(payload.TYPE)) is not None:
            above.span.set_attributes({key: put[key] for key in lent})
        now = time.time_ns()
        begun = now - int(_seconds(payload) * 1e9)
        self._tracer.start_span(name, context=above.inside, attributes=put, start_time=begun).end(now)
        self.made[name] += 1


def _seconds(payload: Any) -> float:
    if isinstance(payload, said.RequestStarted):
        return payload.wait_seconds
    if isinstance(payload, ConnectionOpened):
        return payload.dns_seconds + payload.connect_seconds + payload.tls_seconds
    return float(payload.seconds)


def main() -> None:
    """Put the SDK where the recorder is, and go on as eventflow."""
    spans = SpanRecorder()

    def record(_recorder: Recorder, span: Span, payload: Payload, _causes: Iterable[Link] = ()) -> Link:
        """In place of an event; the version goes on, since it is what stages ask for."""
        spans.take(span, payload)
        stream = span.stream
        stream.version += 1
        if stream.last is None:
            stream.last = Link("0" * 32, stream.trace_id, span.span_id)
        return stream.last

    LogWriter.append = _append_nothing  # type: ignore[assignment, method-assign]
    Recorder.record = record  # type: ignore[assignment, method-assign]
    try:
        runpy.run_module("eventflow", run_name="__main__")
    finally:
        spans.provider.shutdown()
        print(json.dumps({"made": spans.made, "exported": spans.exporter.exported}), file=sys.stderr)


def _append_nothing(_writer: LogWriter, _lines: bytes | bytearray, _count: int) -> None:
    """In place of a batch that goes to the disk."""


if __name__ == "__main__":
    main()
