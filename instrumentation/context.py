"""The current span, as OpenTelemetry's API knows it: spans that user code makes nest under ours.

Our spans are made from the log, later and elsewhere. What their children need of them is two ids, and that they are
sampled. So the context gets a span that records nothing and has those.

Invariants:
    a process that has not loaded OpenTelemetry's API pays for one look into a dictionary, and does not load it;
    nothing is raised into the work, and what was current before is current again, in the same thread or task.

The API is asked for when a span becomes current. Code that imports it for the first time within a request is shown that
request's next span.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_API = "opentelemetry.trace"


class OpenTelemetryContext:
    """For `eventflow.mirror.mirrored_by`. It goes to other processes as it is."""

    __slots__ = ("_attached", "_detach")

    def __init__(self) -> None:
        self._attached: Callable[[str, str], Any] | None = None
        self._detach: Callable[[Any], None] = lambda _token: None

    def show(self, trace_id: str, span_id: str) -> object:
        """See `eventflow.mirror.Mirror`."""
        if _API not in sys.modules:
            return None
        with suppress(Exception):  # the guard of this module: whatever is wrong with the API, the work goes on
            if self._attached is None:
                self._load()
            if self._attached is not None:
                return self._attached(trace_id, span_id)
        return None

    def hide(self, shown: object) -> None:
        """See `eventflow.mirror.Mirror`."""
        self._detach(shown)  # which logs what is wrong and raises nothing

    def __reduce__(self) -> tuple[type["OpenTelemetryContext"], tuple[()]]:
        return OpenTelemetryContext, ()

    def _load(self) -> None:
        from opentelemetry.context import attach, detach
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        sampled = TraceFlags(TraceFlags.SAMPLED)

        def attached(trace_id: str, span_id: str) -> object:
            context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)
            return attach(set_span_in_context(NonRecordingSpan(context)))

        self._attached, self._detach = attached, detach
