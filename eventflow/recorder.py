"""The recorder: one call puts an event into the log.

A writer thread makes what has come durable every few milliseconds.

It sits between the code that does the work and `eventflow.log`. The forces: the hot path must not wait for a disk, an
event that was reported must never be lost, and memory must stay bounded when the disk is slow. Hence group commit:
`record` adds the event to those that wait (`Intake`) and returns; `flush` is the barrier; a full batch makes `record`
wait. Whoever records the last of some dozens of events makes the lines of all: the writer thread would fetch the
objects from another core, and hold the interpreter meanwhile. So it hashes, writes and syncs, all without the
interpreter, and makes the lines of the few that came last.

Invariants:
    events of one recorder have gapless `seq` in the order of the calls; those of one stream gapless `version`;
    at most `BATCHES_WAITING_MAX` batches of 1 MiB, or of `TOGETHER_MAX` lines if those are longer, and as many
    events wait in memory, and one more for each thread that waits for room; none is ever dropped;
    an event that `flush` has returned for is on disk; after a failed write nothing is acknowledged any more.
"""

import threading
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Self

import msgspec

from eventflow import mirror
from eventflow.disk import Disk, abandon_in_children
from eventflow.errors import LogClosed, NoActiveSpan, StoreError
from eventflow.event import Link, Payload
from eventflow.intake import NO_LINK, Batch, Intake, Recorded
from eventflow.log.format import LINE_BYTES_MAX
from eventflow.log.segment import LogWriter
from eventflow.sources import Sources, SystemSources
from eventflow.stream import Handoff, Stream

BATCH_BYTES_MAX = LINE_BYTES_MAX
BATCHES_WAITING_MAX = 4
BATCH_SECONDS_MAX = 0.02
TOGETHER_MAX = 32
_LOOKS_BEFORE_SLEEP = 20


class Span:
    """A piece of a story with a beginning and an end, to record events in. `with span:` makes it the current one.

    One thread or task uses it at a time; several spans of one stream may be used by several.
    """

    __slots__ = ("_tokens", "parent_span_id", "recorder", "span_id", "stream")

    def __init__(self, recorder: "Recorder", stream: Stream, span_id: str, parent_span_id: str | None) -> None:
        self.recorder, self.stream = recorder, stream
        self.span_id, self.parent_span_id = span_id, parent_span_id

    def record(self, payload: Payload, *causes: Link) -> Link:
        """Record an event in this span. It links to the stream's event before it, and to `causes`.

        See `Recorder.record`.
        """
        return self.recorder.record(self, payload, causes)

    def child(self) -> "Span":
        """A new span of the same story, enclosed by this one."""
        return Span(self.recorder, self.stream, self.recorder.sources.span_id(), self.span_id)

    def handoff(self) -> Handoff:
        """What another process needs to go on in this span."""
        stream = self.stream
        self.recorder.number()
        return Handoff(
            stream.name, stream.trace_id, stream.version, stream.last_numbered, self.span_id, self.parent_span_id
        )

    def __enter__(self) -> Self:
        if not hasattr(self, "_tokens"):  # few spans are ever entered
            self._tokens: list[tuple[Token[Span], object]] = []
        shown = mirror.installed.show(self.stream.trace_id, self.span_id) if mirror.installed is not None else None
        self._tokens.append((CURRENT.set(self), shown))
        return self

    def __exit__(self, *_error: object) -> None:
        token, shown = self._tokens.pop()
        try:
            CURRENT.reset(token)
        except ValueError:  # it is left where it was not entered: what is current there is not this span
            return
        if shown is not None:
            mirror.hide(shown)


CURRENT: ContextVar[Span] = ContextVar("eventflow_span")  # for those who must not raise: see `current_span`


def current_span() -> Span:
    """The span that `with span:` made current in this thread or task.

    Raises:
        NoActiveSpan: there is none.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise NoActiveSpan from None


def record(payload: Payload, *causes: Link) -> Link:
    """Record an event in the current span. See `Recorder.record`."""
    return current_span().record(payload, *causes)


class RecorderStatistics(msgspec.Struct, frozen=True):
    """A recorder's numbers so far. `waiting_max` is the most events that waited in memory at once."""

    recorded: int
    durable: int
    batches: int
    waiting_max: int


class Recorder:
    """Records the events of one process of one run. Safe to call from threads and from trio tasks alike.

    Args:
        log: `<store>/<run>/log`.
        run: the run.
        sources: time, ids and randomness.
        disk: the operating system, or a test's idea of it.
        batch_seconds_max: how long an event waits for company before it is written. None: until no more may wait or
            `flush` asks, so that the same calls make the same batches.
        links: whether events link to what caused them; without, there are states and no chain, and `record` gives a
            link to nothing.

    Raises:
        LogWriteFailed: the log could not be opened.
    """

    def __init__(
        self,
        log: Path,
        run: str,
        *,
        sources: Sources | None = None,
        disk: Disk | None = None,
        batch_seconds_max: float | None = BATCH_SECONDS_MAX,
        links: bool = True,
    ) -> None:
        self.sources = sources or SystemSources()
        self.run = run
        self._writer = LogWriter(log, run, self.sources.name_suffix(), disk)
        self.writer = self._writer.writer
        self._links, self._batch_seconds_max = links, batch_seconds_max
        self._event_id, self._time_ns = self.sources.event_id, self.sources.time_ns
        self._first_seq = self._writer.seq + 1  # not 0 if the sources gave a name that was there
        self._intake = Intake(run, self.writer, self._first_seq, self.sources, links=links)
        self._recorded = self._intake.recorded
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # durable, room or failure: whoever waits looks again
        self._work = threading.Condition(self._lock)  # something for the writer thread to do
        self._full: list[Batch] = []
        self._filling = Batch()
        self._is_idle = self._is_over = self._closing = False  # to be woken; it has looked for the last time
        self._must_look = False  # the one thing that `record` asks: idle, full, closing, over or failed
        self._durable_seq, self._flush_seq = self._writer.seq, -1
        self._batches = self._waiting_max = 0
        self._failure: StoreError | None = None
        self._thread = threading.Thread(target=self._write_batches, name="eventflow-log", daemon=True)
        self._thread.start()
        abandon_in_children(self)

    def open_stream(self, name: str, *, trace_id: str | None = None, parent_span_id: str | None = None) -> Span:
        """Begin the story of a thing, in a trace of its own or below a span elsewhere; gives its root span."""
        stream = Stream(name, trace_id or self.sources.trace_id())
        return Span(self, stream, self.sources.span_id(), parent_span_id)

    def adopt(self, handoff: Handoff) -> Span:
        """Go on in a story that another process began."""
        stream = Stream(handoff.stream, handoff.trace_id, handoff.version, handoff.last)
        return Span(self, stream, handoff.span_id, handoff.parent_span_id)

    def record(self, span: Span, payload: Payload, causes: tuple[Link, ...] = ()) -> Link:
        """Put one event into the log, in order, and return the link to it. It is durable after the next `flush`.

        Blocks only while `BATCHES_WAITING_MAX` full batches wait for a slow disk.

        Raises:
            StoreError: the log cannot be written any more, or this recorder is closed: stop the run.
            EventTooLarge: its line is longer than `LINE_BYTES_MAX`, 1 MiB. Nothing was recorded.
            TypeError: the payload holds something that JSON cannot. Nothing was recorded.
        """
        link = Link(self._event_id(), span.stream.trace_id, span.span_id) if self._links else NO_LINK
        entry = (span, payload, link, causes, self._time_ns())
        if not payload.BRIEF:
            self._record_at_once(entry)
            return link
        if self._links:
            span.stream.last = link
        self._recorded.append(entry)
        if self._must_look or len(self._recorded) >= TOGETHER_MAX:
            self._look_after(entry)
        return link

    def number(self) -> None:
        """Give what was recorded its numbers, so that its streams know how far they are told."""
        with self._lock:
            if self._can_number():
                self._intake.number()

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything that was recorded before this call is on disk.

        Raises:
            StoreError: it cannot be made durable.
            TimeoutError: it was not within `timeout_s`.
        """
        with self._lock:
            self._encode()
            target = self._intake.seq_after() - 1
            self._flush_seq = max(self._flush_seq, target)
            self._work.notify()
            done = self._changed.wait_for(lambda: self._durable_seq >= target or not self._can_number(), timeout_s)
            if self._durable_seq >= target:
                return
            if not done:
                raise TimeoutError(f"the log was not durable within {timeout_s} s")
            raise self._failure or LogClosed("the recorder is closed")

    def close(self) -> None:
        """Flush, stop the writer thread and release the segment. Idempotent.

        Raises:
            StoreError: what was recorded last could not be made durable.
        """
        try:
            if self._failure is None and not self._closing:
                self.flush()
        finally:
            with self._lock:
                self._closing = True
                self._set_must_look()
                self._work.notify()
                self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self._writer.close()

    def statistics(self) -> RecorderStatistics:
        """The numbers so far."""
        with self._lock:
            first = self._first_seq
            recorded = self._intake.seq_after() - first
            return RecorderStatistics(recorded, self._durable_seq + 1 - first, self._batches, self._waiting_max)

    @property
    def failure(self) -> StoreError | None:
        """Why this recorder cannot record any more, None while it can."""
        return self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _record_at_once(self, entry: Recorded) -> None:
        """An event that may have no line, or could be changed by whoever has its payload: its line is made now."""
        with self._lock:
            self._wake()
            if self._must_look:
                self._wait_for_room()
            self._intake.number_now(entry)
            self._encode()
            entry[0].stream.last = entry[2]

    def _look_after(self, entry: Recorded) -> None:
        """What `record` leaves to do: wake the writer thread, wait for room, see to what came."""
        with self._lock:
            self._wake()
            try:
                self._wait_for_room()
            except StoreError:
                if self._intake.take_back(entry) or self._failure is not None:
                    raise
            if len(self._recorded) >= TOGETHER_MAX:
                self._encode()
            self._set_must_look()

    def _wake(self) -> None:
        if self._is_idle:
            self._work.notify()
            self._is_idle = False

    def _can_number(self) -> bool:
        """Whether the writer thread will see what gets a number now."""
        return self._failure is None and not self._is_over

    def _encode(self) -> None:
        """What was recorded becomes lines of the batch, or, if they do not fit, of a new one: with the lock held."""
        intake = self._intake
        if not intake.recorded or not self._can_number():
            return
        lines = intake.encode()
        count, size = len(intake.numbered), len(lines)
        if self._filling.count and self._filling.size + size > BATCH_BYTES_MAX:
            self._close_batch()
            self._work.notify()
        batch = self._filling
        batch.pieces += (lines,)  # no call from here on: see `Intake`
        batch.count += count
        batch.size += size
        del intake.recorded[:count]
        intake.numbered = []

    def _close_batch(self) -> None:
        """What is filled goes to the writer thread."""
        self._full, self._filling = [*self._full, self._filling], Batch()  # in one step: see `Intake`
        self._set_must_look()

    def _wait_for_room(self) -> None:
        """Back-pressure, or the end: called with the lock held."""
        if len(self._full) >= BATCHES_WAITING_MAX:
            self._work.notify()
            self._changed.wait_for(lambda: self._is_ending() or len(self._full) < BATCHES_WAITING_MAX)
        if self._is_ending():
            raise self._failure or LogClosed("the recorder is closed")

    def _is_ending(self) -> bool:
        return self._closing or self._failure is not None

    def _write_batches(self) -> None:
        try:
            while batch := self._next_batch():
                self._writer.append(bytearray().join(batch.pieces), batch.count)
                with self._lock:
                    self._durable_seq += batch.count
                    self._batches += 1
                    self._changed.notify_all()
        except StoreError as failure:
            self._fail(failure)
        except Exception as problem:  # noqa: BLE001  (a bug here must end the run, never hang it)
            self._fail(StoreError(f"the log's writer thread failed ({problem!r}): please report it"))

    def _next_batch(self) -> Batch | None:
        """Wait for an event, then a moment for company. None when the recorder closes.

        To be woken costs the caller of `record` more than to record: so while events keep coming this wakes by itself,
        and only when none has come for a while it sleeps until it is called.
        """
        with self._lock:
            if not self._linger():
                self._is_idle = self._must_look = True  # before it looks whether there is something
                self._work.wait_for(lambda: self._waiting() or self._closing)
                self._is_idle = False
                self._work.wait_for(self._is_urgent, self._batch_seconds_max)
            self._waiting_max = max(self._waiting_max, self._waiting())
            if not self._full:
                self._encode()
            if not self._full and self._filling.count:
                self._close_batch()
            batch = self._full.pop(0) if self._full else None
            self._is_over = batch is None
            self._set_must_look()
            self._changed.notify_all()
            return batch

    def _set_must_look(self) -> None:
        self._must_look = self._is_idle or self._is_ending() or len(self._full) >= BATCHES_WAITING_MAX

    def _linger(self) -> bool:
        """Look for events a few times, as long apart as they may wait. Whether some came, and so have waited."""
        if self._waiting() or self._batch_seconds_max is None:
            return False
        for _ in range(_LOOKS_BEFORE_SLEEP):
            self._work.wait(self._batch_seconds_max)
            if self._waiting() or self._closing:
                return True
        return False

    def _waiting(self) -> int:
        """How many events wait."""
        return len(self._recorded) + self._filling.count + sum(batch.count for batch in self._full)

    def _is_urgent(self) -> bool:
        return bool(self._full) or self._flush_seq > self._durable_seq or self._closing

    def _fail(self, failure: StoreError) -> None:
        with self._lock:
            self._intake.number()  # they count as recorded
            del self._recorded[: len(self._intake.numbered)]
            self._intake.numbered, self._full, self._filling = [], [], Batch()
            self._failure = failure
            self._set_must_look()
            self._changed.notify_all()

    def abandon_in_child(self) -> None:
        """In a forked child: refuse everything. It shall open its own."""
        self._lock = threading.Lock()
        self._changed = self._work = threading.Condition(self._lock)
        self._failure = LogClosed("this process was forked from the one that opened it")
        self._set_must_look()
