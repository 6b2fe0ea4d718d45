"""A span that has ended, as plain values: what the events of a run say, in OpenTelemetry's terms, without its SDK.

Everything that shows or exports traces starts from these: OTLP, the waterfall in the terminal, OTLP as JSON, Perfetto.

Invariants:
    the same events give the same spans, in every field, however often and in whatever portions they are read: so a span
    that is sent twice is the same span twice, and a backend can tell;
    no field holds a secret, since no event does.
"""

from typing import Literal

import msgspec

STATUS_FAILED_MIN = 400
Attribute = str | bool | int | float | tuple[str, ...]
Kind = Literal["internal", "client"]
State = Literal["completed", "failed", "cancelled", "interrupted"]


class SpanLink(msgspec.Struct, frozen=True, gc=False):
    """What came before: the span, and the event in it, that led to this one."""

    trace_id: str
    span_id: str
    event_id: str


class SpanEvent(msgspec.Struct, frozen=True, gc=False):
    """A moment within a span. `name` is the event's type, `time_ns` Unix time."""

    name: str
    time_ns: int
    attributes: dict[str, Attribute] = {}


class FinishedSpan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One span of a trace.

    Attributes:
        run, stream, writer: where it is told: the run, the story, and the process that recorded its last event.
        step: what it is, whatever it is called: `run`, `stage`, `process`, `origin`, `request`, `queue`, `attempt`,
            `connect`, `body`, `verify`, `store`, `program`, or the first word of the type of an event of one's own.
        name: OpenTelemetry's: the step, but `GET` for an attempt and the executable's name for a program.
        kind: `client` for what another process answers: attempts and programs.
        trace_id, span_id, parent_span_id: W3C ids; no parent for the root of a trace.
        start_ns, end_ns: Unix time in nanoseconds, `start_ns < end_ns`.
        state: how it ended; `interrupted` if nothing in the log says so, because its process was killed.
        message: why it failed, in one line; else empty.
        attributes: by the semantic conventions where they have a word, else `eventflow.*`; see `attributes`.
        links: what led to it and is not its parent: the step before it, whoever had the connection before, the run.
        events: moments within it that are no spans; `dropped_events` is how many more there were.
    """

    run: str
    stream: str
    writer: str
    step: str
    name: str
    kind: Kind = "internal"
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    state: State = "completed"
    message: str = ""
    attributes: dict[str, Attribute] = {}
    links: tuple[SpanLink, ...] = ()
    events: tuple[SpanEvent, ...] = ()
    dropped_events: int = 0

    @property
    def is_error(self) -> bool:
        """Whether OpenTelemetry calls it an error. To be cancelled on purpose is none; to be killed is."""
        return self.state in {"failed", "interrupted"}

    @property
    def status_message(self) -> str:
        """What OpenTelemetry's status says of an error: nothing, by its conventions, where a status code says it."""
        if not self.is_error:
            return ""
        code = self.attributes.get("http.response.status_code")
        if self.state == "failed" and self.step == "attempt" and isinstance(code, int) and code >= STATUS_FAILED_MIN:
            return ""
        return self.message or ("killed" if self.state == "interrupted" else "")

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9
