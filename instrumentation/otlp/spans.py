"""Finished spans as the SDK's own, which its exporters take.

No tracer makes them and no processor queues them: the log is the queue. They carry the ids of the events: a span that
is sent again is the same span.
"""

from collections.abc import Callable, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from instrumentation.traces import FinishedSpan, SpanLink

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}


def readable_span(span: FinishedSpan, resource: Callable[[str], Resource], scope: InstrumentationScope) -> ReadableSpan:
    """The span for an exporter of the SDK; `resource` says what the process of a writer was."""
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_span_id is not None:
        parent = SpanContext(trace_id, int(span.parent_span_id, 16), is_remote=False, trace_flags=_SAMPLED)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource(span.writer),
        attributes=span.attributes,
        events=_events(span),
        links=[_link(link) for link in span.links],
        kind=_KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.status_message or None) if span.is_error else _UNSET,
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=scope,
    )


def _events(span: FinishedSpan) -> Sequence[Event]:
    made = [Event(event.name, event.attributes, event.time_ns) for event in span.events]
    if not span.dropped_events:
        return made
    counted = BoundedList.from_seq(len(made), made)  # where the SDK looks for how many there were besides
    counted.dropped = span.dropped_events
    return counted


def _link(link: SpanLink) -> Link:
    context = SpanContext(int(link.trace_id, 16), int(link.span_id, 16), is_remote=False, trace_flags=_SAMPLED)
    return Link(context, {"eventflow.event.id": link.event_id})
