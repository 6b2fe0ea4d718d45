"""The recorder: one call puts an event into the log.

A writer thread makes what has come durable every few milliseconds.

It sits between the code that does the work and `eventflow.log`. The forces: the hot path must not wait for a disk, an
event that was reported must never be lost, and memory must stay bounded when the disk is slow. Hence group commit:
`record` adds the event to those that wait and returns; `flush` is the barrier; a full batch makes `record` wait. Events
are encoded some dozens at a time, by whoever records the last of them: one by one, each between other work, the encoder
would find the processor's caches full of that other work, and take twice as long; and the writer thread would fetch
the objects from another core, and hold the interpreter meanwhile. So it only hashes, writes and syncs, all without the
interpreter, and encodes the few that came last.

Invariants:
    events of one recorder have gapless `seq` in the order of the calls; those of one stream gapless `version`;
    at most `BATCHES_WAITING_MAX` batches, 4 MiB, and `TOGETHER_MAX` events wait in memory; none is ever dropped;
    an event that `flush` has returned for is on disk; after a failed write nothing is acknowledged any more.
"""

import os
import threading
import weakref
from collections.abc import Iterable
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from eventflow import mirror
from eventflow.disk import Disk
from eventflow.errors import LogClosed, NoActiveSpan, StoreError
from eventflow.event import Event, Link, Payload
from eventflow.log.format import LINE_BYTES_MAX, encode_brief, try_line
from eventflow.log.segment import LogWriter
from eventflow.sources import Sources, SystemSources
from eventflow.stream import Handoff, Stream

BATCH_BYTES_MAX = LINE_BYTES_MAX
BATCHES_WAITING_MAX = 4
BATCH_SECONDS_MAX = 0.02
TOGETHER_MAX = 32
_LONG_BYTES = 4 << 10
_LOOKS_BEFORE_SLEEP = 20


class Span:
    """A piece of a story with a beginning and an end, to record events in. `with span:` makes it the current one.

    A span is used by one thread or task at a time; several spans of one stream may be used by several.
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
        return Handoff(stream.name, stream.trace_id, stream.version, stream.last, self.span_id, self.parent_span_id)

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


class _Batch:
    """Event lines on their way to the disk: pieces of whole lines, how many lines, how many bytes."""

    __slots__ = ("count", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.count = self.size = 0


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
        links: whether events link to what caused them; without, there are states and no chain.

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
        self._batch_seconds_max = batch_seconds_max
        self._links = links
        self._event_id, self._time_ns = self.sources.event_id, self.sources.time_ns
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # durable, room or failure: whoever waits looks again
        self._work = threading.Condition(self._lock)  # something for the writer thread to do
        self._new: list[Event[Payload]] = []  # recorded, and not encoded yet
        self._full: list[_Batch] = []
        self._filling = _Batch()
        self._is_idle = self._is_blocked = False  # blocked: full, closing or failed
        self._first_seq = self._next_seq = self._writer.seq + 1  # not 0 if the sources gave a name that was there
        self._durable_seq = self._writer.seq
        self._flush_seq = -1
        self._batches = 0
        self._waiting_max = 0
        self._closing = False
        self._failure: StoreError | None = None
        self._thread = threading.Thread(target=self._write_batches, name="eventflow-log", daemon=True)
        self._thread.start()
        _recorders.add(self)

    def open_stream(self, name: str, *, trace_id: str | None = None, parent_span_id: str | None = None) -> Span:
        """Begin the story of a thing, in a trace of its own or below a span elsewhere; gives its root span."""
        stream = Stream(name, trace_id or self.sources.trace_id())
        return Span(self, stream, self.sources.span_id(), parent_span_id)

    def adopt(self, handoff: Handoff) -> Span:
        """Go on in a story that another process began."""
        stream = Stream(handoff.stream, handoff.trace_id, handoff.version, handoff.last)
        return Span(self, stream, handoff.span_id, handoff.parent_span_id)

    def record(self, span: Span, payload: Payload, causes: Iterable[Link] = ()) -> Link:
        """Put one event into the log, in order, and return the link to it. It is durable after the next `flush`.

        Blocks only while `BATCHES_WAITING_MAX` full batches wait for a slow disk.

        Raises:
            StoreError: the log cannot be written any more, or this recorder is closed: stop the run.
            EventTooLarge: its line is longer than `LINE_BYTES_MAX`, 1 MiB. Nothing was recorded.
            TypeError: the payload holds something that JSON cannot. Nothing was recorded.
        """
        stream = span.stream
        event_id = self._event_id()
        link = Link(event_id, stream.trace_id, span.span_id)
        with self._lock:
            if self._is_blocked:
                self._wait_for_room()
            seq, version, last = self._next_seq, stream.version, stream.last
            event = Event(
                event_id,
                payload.TYPE,
                self._time_ns(),
                self.run,
                stream.name,
                version,
                self.writer,
                seq,
                stream.trace_id,
                span.span_id,
                payload,
                span.parent_span_id,
                () if not self._links else (last, *causes) if last else tuple(causes),
            )
            size = 0 if payload.BRIEF else try_line(event)
            # No call between here and the last of the four: an interrupt comes after a call, and finds all or nothing.
            new = self._new
            new += (event,)
            stream.version = version + 1
            stream.last = link
            self._next_seq = seq + 1
            if len(new) >= TOGETHER_MAX or size > _LONG_BYTES:
                self._encode_new()
            if self._is_idle:
                self._is_idle = False
                self._work.notify()
        return link

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything that was recorded before this call is on disk.

        Raises:
            StoreError: it cannot be made durable.
            TimeoutError: it was not within `timeout_s`.
        """
        with self._lock:
            target = self._next_seq - 1
            self._flush_seq = max(self._flush_seq, target)
            self._work.notify()
            done = self._changed.wait_for(lambda: self._failure or self._durable_seq >= target, timeout_s)
            if self._durable_seq >= target:
                return
            if not done:
                raise TimeoutError(f"the log was not durable within {timeout_s} s")
            raise self._failure or LogClosed("the recorder failed")

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
                self._closing = self._is_blocked = True
                self._work.notify()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self._writer.close()

    def statistics(self) -> RecorderStatistics:
        """The numbers so far."""
        with self._lock:
            recorded, durable = self._next_seq - self._first_seq, self._durable_seq + 1 - self._first_seq
            return RecorderStatistics(recorded, durable, self._batches, self._waiting_max)

    @property
    def failure(self) -> StoreError | None:
        """Why this recorder cannot record any more, None while it can."""
        return self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode_new(self) -> None:
        """What was recorded becomes lines of the batch, or, if they do not fit, of a new one: with the lock held."""
        new = self._new
        lines = encode_brief(new)
        count, size = len(new), len(lines)
        if self._filling.count and self._filling.size + size > BATCH_BYTES_MAX:
            self._close_batch()
            self._work.notify()
        batch = self._filling
        batch.pieces += (lines,)  # no call from here on: see `record`
        batch.count += count
        batch.size += size
        self._new = []

    def _close_batch(self) -> None:
        """What is filled goes to the writer thread."""
        self._full, self._filling = [*self._full, self._filling], _Batch()  # in one step: see `record`
        self._block_if_full()

    def _wait_for_room(self) -> None:
        """Back-pressure, or the end: called with the lock held."""
        self._work.notify()
        self._changed.wait_for(lambda: self._failure or self._closing or len(self._full) < BATCHES_WAITING_MAX)
        if self._failure is not None or self._closing:
            raise self._failure or LogClosed("the recorder is closed")

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

    def _next_batch(self) -> "_Batch | None":
        """Wait for an event, then a moment for company. None when the recorder closes.

        To be woken costs the caller of `record` more than to record: so while events keep coming this wakes by itself,
        and only when none has come for a while it sleeps until it is called.
        """
        with self._lock:
            if not self._linger():
                self._is_idle = not self._waiting()
                self._work.wait_for(lambda: self._waiting() or self._closing)
                self._is_idle = False
                self._work.wait_for(self._is_urgent, self._batch_seconds_max)
            self._waiting_max = max(self._waiting_max, self._waiting())
            if not self._full and self._new:
                self._encode_new()
            if not self._full and self._filling.count:
                self._close_batch()
            batch = self._full.pop(0) if self._full else None
            self._block_if_full()
            self._changed.notify_all()
            return batch

    def _block_if_full(self) -> None:
        self._is_blocked = self._closing or self._failure is not None or len(self._full) >= BATCHES_WAITING_MAX

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
        return len(self._new) + self._filling.count + sum(batch.count for batch in self._full)

    def _is_urgent(self) -> bool:
        return bool(self._full) or self._flush_seq > self._durable_seq or self._closing

    def _fail(self, failure: StoreError) -> None:
        with self._lock:
            self._failure, self._is_blocked = failure, True
            self._new, self._full, self._filling = [], [], _Batch()
            self._changed.notify_all()

    def _after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        self._changed = self._work = threading.Condition(self._lock)
        self._is_blocked = True
        self._failure = LogClosed("this process was forked from the one that opened it")


_recorders: "weakref.WeakSet[Recorder]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder._after_fork_in_child()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
