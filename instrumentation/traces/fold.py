"""From the events of a run to its spans, one event after the other.

A story is told by one process at a time but read from several logs, in any order between them. So the events of each
stream are taken by their version, whatever comes early waits, and nothing but its stream decides what a span says: it
is the same whichever way it was read. The two exceptions are the worker processes, whose start is in a stream of their
own and whose end is in the run's.

A request that is resumed goes on in its stream, its trace and its root span. But that span has ended then, and may be
in somebody's database. So what comes after is a span of its own, whose id follows from the event that begins it, below
the first one.

Invariants:
    every span of the log is given once, by `feed` when it ends or by `finish`; a request that nobody took up has none;
    memory is that of the stories that are not over, and four bytes for each request.
"""

import hashlib
from collections.abc import Callable, Iterable

from eventflow import origin_events as origins
from eventflow import vocabulary as said
from eventflow.event import Link, Payload, StoredEvent
from eventflow.vocabulary import decode_payload
from instrumentation.traces.attributes import LENT, PUTTERS, exited, told
from instrumentation.traces.span import Attribute, FinishedSpan, Kind, SpanLink, State
from instrumentation.traces.stories import Ends, OpenSpan, OpenStory

_METRIC = "metric.measured"
_SAID_ELSEWHERE = frozenset(
    ("request.started", "attempt.answering", "process.sampled", "process.measured", "recorder.dropped")
)
_BEGINNINGS = frozenset((said.RequestQueued.TYPE, said.RunStarted.TYPE))
_BEGUN = frozenset(("request", "attempt", "run", "stage", "process", "program"))
_CLIENTS = frozenset(("attempt", "program"))
_ORIGIN = frozenset(("limit", "breaker", "robots"))
_AT_ONCE = {
    said.RequestStarted.TYPE: "queue",
    origins.ConnectionOpened.TYPE: "connect",
    said.AttemptBody.TYPE: "body",
    said.FileVerified.TYPE: "verify",
    said.FileStored.TYPE: "store",
}
_ENDINGS: dict[str, State] = {
    "completed": "completed",
    "redirected": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "interrupted": "cancelled",  # in order, because somebody asked for it
}
_NOTED = frozenset(
    kind.TYPE
    for kind in (said.RequestQueued, said.AttemptRedirected, said.AttemptFailed, said.RequestFailed, said.RunFailed)
)
_CLOSED_BY = frozenset((said.RequestCancelled.TYPE, said.AttemptCompleted.TYPE, said.StageCompleted.TYPE))
_NOTHING: tuple[FinishedSpan, ...] = ()


class SpanFold:
    """The spans of one run.

    Args:
        run: its name.
        wanted: which streams matter; all if None. How a worker process ended is in the stream `run`.
    """

    def __init__(self, run: str, wanted: Callable[[str], bool] | None = None) -> None:
        self.run = run
        self._wanted = wanted
        self._stories: dict[str, OpenStory] = {}
        self._ends = Ends()
        self._last_ns: dict[str, int] = {}  # when each writer wrote last
        self._exits: list[tuple[int, said.ProcessExited]] = []  # of worker processes, and when

    def feed(self, event: StoredEvent) -> Iterable[FinishedSpan]:
        """Take one event; gives the spans that it ends.

        Raises:
            MalformedPayload: the payload does not fit its type: the log is damaged.
        """
        self._last_ns[event.writer] = event.time
        if event.type == _METRIC or (self._wanted is not None and not self._wanted(event.stream)):
            return _NOTHING
        story = self._stories.get(event.stream)
        if story is None:
            story = self._stories[event.stream] = OpenStory(self._ends.next_version(event.stream))
        if event.version != story.next_version:
            if event.version > story.next_version:
                story.waiting[event.version] = event
            return _NOTHING
        if not story.waiting:
            return self._take(story, event)
        story.waiting[event.version] = event
        ended: list[FinishedSpan] = []
        self._go_on(story, event.stream, ended)
        return ended

    def finish(self) -> list[FinishedSpan]:
        """The spans that have not ended, of a run that nobody writes to any more."""
        ended: list[FinishedSpan] = []
        for stream in list(self._stories):
            while (story := self._stories.get(stream)) and story.waiting:
                story.next_version = min(story.waiting)  # what was to come before it was given up by a repair
                self._go_on(story, stream, ended)
        workers = {name: story for name, story in self._stories.items() if _worker(story) is not None}
        starts = sorted((span.start_ns, _pid(span)) for story in workers.values() for span in story.spans.values())
        for stream, story in self._stories.items():
            if stream in workers:
                ended.append(self._end_worker(story, stream, starts))
            else:
                self._forget_untouched(story)
                ended += self._close_all(story, stream, "interrupted")
        self._stories.clear()
        return ended

    def _go_on(self, story: OpenStory, stream: str, ended: list[FinishedSpan]) -> None:
        """What waited, as far as there is no gap. The story may be over in between, and begin again."""
        while event := story.waiting.pop(story.next_version, None):
            waiting = story.waiting
            ended += self._take(story, event)
            if waiting and stream not in self._stories:
                story = self._stories[stream] = OpenStory(self._ends.next_version(stream))
                story.waiting = waiting

    def _take(self, story: OpenStory, event: StoredEvent) -> Iterable[FinishedSpan]:
        story.next_version = event.version + 1
        story.trace_id = event.trace_id
        payload = decode_payload(event)
        before: Iterable[FinishedSpan] = _NOTHING
        if event.version and event.type in _BEGINNINGS:
            self._forget_untouched(story)
            before = self._close_all(story, event.stream, "interrupted")
        story.last_ns = event.time
        span = story.spans.get(event.span_id)
        is_first = span is None
        if span is None:
            span = self._begin(story, event, payload)
        span.writer, span.end_ns = event.writer, event.time
        for link in event.links:
            self._link(story, span, link, is_first=is_first)
        self._tell(story, span, event, payload, is_first=is_first)
        after = self._end(story, span, event, payload)
        return [*before, *after] if before else after

    def _begin(self, story: OpenStory, event: StoredEvent, payload: Payload) -> OpenSpan:
        subject = event.type.partition(".")[0]
        span = OpenSpan(event, _AT_ONCE.get(event.type) or ("origin" if subject in _ORIGIN else subject))
        if isinstance(payload, said.AttemptStarted):
            span.name = payload.method
            if story.url is not None:
                span.attributes["url.full"] = story.url
        elif isinstance(payload, said.ProcessStarted) and payload.role == "program":
            span.step, span.name = "program", payload.program
        elif _is_root(event) and (story.began or event.span_id in story.parents):
            span.shown_id = hashlib.blake2b(event.id.encode(), digest_size=8).hexdigest()
            span.parent = event.span_id
        story.spans[event.span_id] = span
        story.parents[event.span_id] = event.parent_span_id
        return span

    def _link(self, story: OpenStory, span: OpenSpan, link: Link, *, is_first: bool) -> None:
        """What led to the event, where the tree does not show it.

        A link to the span itself, to what encloses it or to what it encloses says nothing new. But where the enclosing
        span's last event came from an earlier child, that child is the step before.
        """
        if is_first and span.shown_id != span.span_id:  # it goes on from there
            span.link(link)
        elif story.encloses(span.span_id, link.span_id):
            span.child = link
        elif link.span_id == span.parent:
            parent = story.spans.get(link.span_id)
            if is_first and parent is not None and parent.child is not None:
                span.link(parent.child)
        elif link.span_id != span.span_id:
            span.link(link)

    def _tell(self, story: OpenStory, span: OpenSpan, event: StoredEvent, payload: Payload, *, is_first: bool) -> None:
        put = PUTTERS.get(event.type)
        if isinstance(payload, said.ProcessStarted | said.ProcessExited) and span.step not in {"process", "program"}:
            if isinstance(payload, said.ProcessExited):
                self._exits.append((event.time, payload))
        elif put is not None:
            put(payload, span.attributes)
            _lend(story, span, event.type)
        elif event.type in _SAID_ELSEWHERE:
            return
        elif is_first and span.step != "origin":
            span.attributes.update(told(payload))
        elif event.type not in _CLOSED_BY:
            span.moment(event.type, event.time, told(payload))
        if event.type in _NOTED:
            _note(story, span, event.time, payload)

    def _end(self, story: OpenStory, span: OpenSpan, event: StoredEvent, payload: Payload) -> Iterable[FinishedSpan]:
        """The spans that the event ends: its own, and with a root whatever is open below it."""
        if event.type in _AT_ONCE:
            span.start_ns = event.time - _nanoseconds(_seconds(payload))
            return (self._close(story, event.stream, span, "completed"),)
        if isinstance(payload, said.ProcessExited):
            if span.step != "program":
                return _NOTHING
            return (self._close(story, event.stream, span, "failed" if payload.exit_code else "completed"),)
        state = _ENDINGS.get(event.type.rpartition(".")[2])
        if state is None:
            return _NOTHING
        if span.step == "attempt" and (seconds := _seconds(payload)):
            span.end_ns = min(event.time, span.start_ns + _nanoseconds(seconds))
        if not _is_root(event):
            return (self._close(story, event.stream, span, state),)
        ended = self._close_all(story, event.stream, "cancelled" if state == "cancelled" else "interrupted", span)
        ended.append(self._close(story, event.stream, span, state))
        self._ends.note(event.stream, story.next_version)
        del self._stories[event.stream]
        return ended

    def _forget_untouched(self, story: OpenStory) -> None:
        """A request that was read from the list, and that is all: nothing of it took any time, so there is no span."""
        span = next(iter(story.spans.values()), None)
        if span is not None and span.step == "request" and span.start_ns == story.last_ns:
            del story.spans[span.span_id]
            if span.shown_id == span.span_id:
                del story.parents[span.span_id]

    def _close_all(
        self, story: OpenStory, stream: str, state: State, but: OpenSpan | None = None
    ) -> list[FinishedSpan]:
        """Whatever is open, the innermost first. What no event of its kind ends is over with its last one."""
        ended = []
        for span in reversed(list(story.spans.values())):
            if span is but:
                continue
            if span.step not in _BEGUN:
                ended.append(self._close(story, stream, span, "completed"))
                continue
            span.end_ns = max(span.end_ns, story.last_ns)
            ended.append(self._close(story, stream, span, state))
        return ended

    def _close(self, story: OpenStory, stream: str, span: OpenSpan, state: State) -> FinishedSpan:
        del story.spans[span.span_id]
        enclosing = story.spans.get(span.parent) if span.parent is not None else None
        kind: Kind = "client" if span.step in _CLIENTS else "internal"
        if state in {"cancelled", "interrupted"}:  # which OpenTelemetry's status does not tell
            span.attributes["eventflow.state"] = state
        if state == "interrupted":
            span.attributes.setdefault("error.type", state)
        return FinishedSpan(
            run=self.run,
            stream=stream,
            writer=span.writer,
            step=span.step,
            name=span.name,
            kind=kind,
            trace_id=story.trace_id,
            span_id=span.shown_id,
            parent_span_id=span.parent if enclosing is None else enclosing.shown_id,
            start_ns=span.start_ns,
            end_ns=max(span.start_ns + 1, span.end_ns),  # one nanosecond at least: Jaeger takes less for a fault
            state=state,
            message=span.message,
            attributes=span.attributes,
            links=tuple([SpanLink(link.trace_id, link.span_id, link.id) for link in span.links]),
            events=tuple(span.events),
            dropped_events=span.dropped,
        )

    def _end_worker(self, story: OpenStory, stream: str, starts: list[tuple[int, Attribute]]) -> FinishedSpan:
        """A worker's end is told by who waited for it; without, it was alive when it wrote last.

        A number is given again, so an exit belongs to the last worker of that number that had begun then.
        """
        (span,) = story.spans.values()
        pid = _pid(span)
        for time_ns, gone in self._exits:
            begun = [start_ns for start_ns, other in starts if other == pid == gone.pid and start_ns <= time_ns]
            if begun and begun[-1] == span.start_ns:
                exited(gone, span.attributes)
                span.end_ns = time_ns
                return self._close(story, stream, span, "failed" if gone.exit_code else "completed")
        span.end_ns = self._last_ns[span.writer]
        return self._close(story, stream, span, "interrupted")


def _is_root(event: StoredEvent) -> bool:
    """Whether it is in the span that encloses its whole story; above that of a run may be who started it."""
    return event.parent_span_id is None or event.type.startswith("run.")


def _worker(story: OpenStory) -> OpenSpan | None:
    """The span of a worker process, if the story is that of one."""
    span = next(iter(story.spans.values()), None)
    return span if span is not None and span.step == "process" and len(story.spans) == 1 else None


def _pid(span: OpenSpan) -> Attribute:
    return span.attributes["process.pid"]


def _note(story: OpenStory, span: OpenSpan, time_ns: int, payload: Payload) -> None:
    """What the rest of the story has to know, and why it failed: said once, where the failure comes from."""
    match payload:
        case said.RequestQueued():
            story.url, story.error = payload.url, None
        case said.AttemptRedirected():
            story.url = payload.url
        case said.AttemptFailed():
            story.error, span.message = payload.error, payload.message
            if payload.status is None:
                span.exception(time_ns, payload.error, payload.message)
        case said.RequestFailed() | said.RunFailed():
            span.message = payload.message
            if payload.error != story.error:
                span.exception(time_ns, payload.error, payload.message)


def _lend(story: OpenStory, span: OpenSpan, event_type: str) -> None:
    names = LENT.get(event_type)
    parent = story.spans.get(span.parent) if names and span.parent is not None else None
    if names and parent is not None:
        parent.attributes.update({name: span.attributes[name] for name in names})


def _seconds(payload: Payload) -> float:
    if isinstance(payload, origins.ConnectionOpened):
        return payload.dns_seconds + payload.connect_seconds + payload.tls_seconds
    if isinstance(payload, said.RequestStarted):
        return payload.wait_seconds
    return getattr(payload, "seconds", None) or 0.0


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
