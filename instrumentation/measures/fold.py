"""Metrics: a fold over all events of a run, that gives metric points at any moment.

A run has many processes, each with a log of its own, and so has its telemetry: a process is a resource, and its points
count what its own events say, since it began. A resumed run has new processes, whose sums begin at 0 again. What is
only known of the whole run (how many requests are in which state, how long the rest takes) is said by the process that
carries the run on, in place of the one that did before.

It sits behind the log and looks at every event, but into few: most are told by their type alone.

Invariants:
    after all events of a run the points are the same in whatever order the writers' logs were read, each in its own
    order, but for the estimate of the remaining time, which looks back one minute;
    an event that comes again changes nothing; no event makes it raise;
    memory is that of `Tally`, and of the requests in flight, the processes, and the sets of attributes.
"""

from collections.abc import Callable, Iterator

import msgspec

from eventflow.errors import MalformedPayload
from eventflow.event import StoredEvent
from eventflow.live.series import Amounts
from eventflow.measuring_events import MetricMeasured, ProcessMeasured, ProcessSampled
from eventflow.progress import RequestState, Tally, request_number
from eventflow.vocabulary import (
    AttemptBody,
    AttemptFailed,
    AttemptProgressed,
    AttemptStarted,
    ProcessStarted,
    RecorderDropped,
    RunStarted,
)
from instrumentation.measures import instruments
from instrumentation.measures.book import Book
from instrumentation.measures.origins import breaker_closed, breaker_opened, limit_changed
from instrumentation.measures.point import Key, Point
from instrumentation.measures.processes import Processes, account

_COMPLETED: Key = ((instruments.OUTCOME, "completed"),)
_REDIRECTED: Key = ((instruments.OUTCOME, "redirected"),)
_STATES = tuple(state for state in RequestState if state)
_KIND_SIZE_MAX = 100
_STATUS_FAILED_MIN = 400

_body = msgspec.json.Decoder(AttemptBody).decode
_started = msgspec.json.Decoder(AttemptStarted).decode
_measured = msgspec.json.Decoder(MetricMeasured).decode
_sampled = msgspec.json.Decoder(ProcessSampled).decode


class _Sitting(msgspec.Struct, frozen=True):
    """One process's share of a run: who carries it on since when."""

    version: int
    book: Book
    start_ns: int
    workers: int


class _Active(msgspec.Struct, frozen=True):
    """An attempt that has begun and not ended: which event began it, who made it, and what it asks."""

    version: int
    book: Book
    key: Key


class MeasureFold:
    """The fold.

    Args:
        total: how many requests the input has, where that is known.

    Attributes:
        last_ns: the greatest time of an event so far.
        malformed: how many events had a payload that is not what their type says; they count as recorded, only.
    """

    def __init__(self, total: int | None = None) -> None:
        self.last_ns = 0
        self.malformed = 0
        self._total = total
        self._books: dict[str, Book] = {}
        self._sittings: dict[int, _Sitting] = {}
        self._processes: dict[str, Processes] = {}
        self._tally = Tally()
        self._ended = Amounts()
        self._active: dict[str, _Active] = {}
        self._attempts_over: dict[str, int] = {}  # by stream, until its request is known to be further
        self._rules = self._all_rules()

    def feed(self, event: StoredEvent) -> None:
        """Take the next event of any writer. What is behind one that was taken already changes nothing."""
        book = self._books.get(event.writer)
        if book is None:
            book = self._books[event.writer] = Book(event)
        elif event.seq <= book.seq:
            return
        book.seq = event.seq
        self.last_ns = max(self.last_ns, event.time)
        rule = self._rules.get(event.type)
        if rule is not None:
            try:
                rule(book, event)
            except (ValueError, RecursionError, OverflowError, MalformedPayload):
                self.malformed += 1

    def begin_interval(self) -> None:
        """Exemplars, and the extremes of the interval in spreads, are from now on those of what is still to come."""
        for book in self._books.values():
            book.begin_interval()

    def points(self, now_ns: int) -> list[Point]:
        """What there is to show, sums since their process began: by process in the order in which they began."""
        books = sorted(self._books.values(), key=lambda book: (book.start_ns, book.writer))
        current = max(self._sittings, default=-1)
        members: dict[int, list[Book]] = {}
        for book in books:
            members.setdefault(self._sitting_of(book), []).append(book)
        found: list[Point] = []
        for version, mine in members.items():
            found += self._of_sitting(version, mine, now_ns, is_current=version == current)
        return found

    def _of_sitting(self, version: int, books: list[Book], now_ns: int, *, is_current: bool) -> Iterator[Point]:
        sitting = self._sittings.get(version)
        of_processes = self._seen(version).points(books, now_ns)
        for book in books:
            yield from book.points(now_ns, is_current=is_current)
            for point in of_processes.get(book.writer, ()):
                if is_current or point.kind == "counter":
                    yield point
            if is_current and sitting is not None and book is sitting.book:
                yield from self._of_run(sitting, now_ns)

    def lives(self, writer: str) -> bool:
        """Whether a process is one of the sitting that goes on, and was there at the last sample."""
        book = self._books[writer]
        version = self._sitting_of(book)
        return version == max(self._sittings, default=-1) and self._seen(version).lives(book)

    def seq(self, writer: str) -> int:
        """The place of the last event of a process that was taken."""
        return self._books[writer].seq

    def _seen(self, version: int) -> Processes:
        """What the samples of a sitting say."""
        sitting = self._sittings.get(version)
        return (self._processes.get(sitting.book.writer) if sitting is not None else None) or Processes()

    def _sitting_of(self, book: Book) -> int:
        """The sitting in which a process began; what began before the first belongs to it. -1: none is known."""
        before = [version for version, one in self._sittings.items() if one.start_ns <= book.start_ns]
        return max(before, default=min(self._sittings, default=-1))

    def _of_run(self, sitting: _Sitting, now_ns: int) -> list[Point]:
        """What is known of the run, said by who carries it on."""
        tally, book = self._tally, sitting.book
        said = [
            *((instruments.REQUESTS, ((instruments.STATE, one.name.lower()),), tally.counts[one]) for one in _STATES),
            (instruments.STORED, (), tally.bytes),
            (instruments.WORKERS, (), sitting.workers),
            *self._seen(sitting.version).of_run(),
        ]
        if tally.peak_memory_bytes:
            said.append(
                (instruments.RUN_PEAK, ((instruments.MEMORY_KIND, tally.memory_kind),), tally.peak_memory_bytes)
            )
        seconds = self._remaining(sitting, now_ns)
        if seconds is not None:
            said.append((instruments.REMAINING, (), seconds))
        return [book.point(*one, now_ns) for one in said]

    def _remaining(self, sitting: _Sitting, now_ns: int) -> float | None:
        match self._tally.run_state:
            case "completed":
                return 0.0
            case "running" if self._total is not None:
                return self._ended.seconds_for(self._total - self._tally.ended, now_ns, sitting.start_ns)
            case _:
                return None

    def _all_rules(self) -> dict[str, Callable[[Book, StoredEvent], None]]:
        return {
            "run.started": self._run_started,
            "run.completed": self._run_ended,
            "run.interrupted": self._run_ended,
            "run.failed": self._run_ended,
            "request.queued": self._request_moved,
            "request.started": self._request_moved,
            "request.completed": self._request_ended,
            "request.failed": self._request_ended,
            "request.cancelled": self._request_ended,
            "attempt.started": self._attempt_started,
            "attempt.progressed": self._attempt_progressed,
            "attempt.body": self._attempt_body,
            "attempt.completed": self._attempt_completed,
            "attempt.redirected": self._attempt_redirected,
            "attempt.failed": self._attempt_failed,
            "process.started": self._process_started,
            "process.sampled": self._process_sampled,
            "process.measured": self._process_measured,
            "metric.measured": self._metric_measured,
            "recorder.dropped": self._dropped,
            "limit.changed": limit_changed,
            "breaker.opened": breaker_opened,
            "breaker.closed": breaker_closed,
        }

    # ------------------------------------------------------------------------------------------ the run, its requests

    def _run_started(self, book: Book, event: StoredEvent) -> None:
        started = msgspec.json.decode(event.data, type=RunStarted)
        self._tally.take(event)
        self._sittings[event.version] = _Sitting(event.version, book, event.time, started.workers)

    def _run_ended(self, _book: Book, event: StoredEvent) -> None:
        self._tally.take(event)

    def _request_moved(self, _book: Book, event: StoredEvent) -> None:
        self._tally.take(event)
        active = self._active.get(event.stream)
        if active is not None and active.version < event.version:
            self._end(event.stream)
        if self._attempts_over.get(event.stream, event.version) < event.version:
            del self._attempts_over[event.stream]

    def _request_ended(self, book: Book, event: StoredEvent) -> None:
        self._request_moved(book, event)
        self._ended.add(event.time)
        book.failed.discard(event.stream)
        book.received.pop(event.stream, None)

    # --------------------------------------------------------------------------------------------------- the attempts

    def _attempt_started(self, book: Book, event: StoredEvent) -> None:
        """An attempt begins. Its request may be known to have gone on already, from another process's log."""
        started, stream = _started(event.data), event.stream
        book.received.pop(stream, None)
        is_retry = stream in book.failed
        book.failed.discard(stream)
        if started.resend_count and is_retry:
            book.add(instruments.RETRIES)
        key: Key = ((instruments.ADDRESS, started.server_address), (instruments.PORT, started.server_port))
        before = self._active.get(stream)
        number = request_number(stream)
        book.add(instruments.ACTIVE, key, 0)
        if before is not None and before.version > event.version:
            return
        if self._attempts_over.get(stream, -1) > event.version:
            return
        if number is not None and self._tally.version(number) > event.version:
            return
        if before is not None:
            self._end(stream)
        book.add(instruments.ACTIVE, key, 1)
        self._active[stream] = _Active(event.version, book, key)

    def _attempt_progressed(self, book: Book, event: StoredEvent) -> None:
        size = msgspec.json.decode(event.data, type=AttemptProgressed).bytes
        book.add(instruments.RECEIVED, (), max(0, size - book.received.get(event.stream, 0)))
        book.received[event.stream] = size

    def _attempt_body(self, book: Book, event: StoredEvent) -> None:
        size = _body(event.data).bytes
        book.add(instruments.RECEIVED, (), max(0, size - book.received.pop(event.stream, 0)))

    def _attempt_completed(self, book: Book, event: StoredEvent) -> None:
        self._attempt_ended(book, event, _COMPLETED)

    def _attempt_redirected(self, book: Book, event: StoredEvent) -> None:
        self._attempt_ended(book, event, _REDIRECTED)

    def _attempt_failed(self, book: Book, event: StoredEvent) -> None:
        failed = msgspec.json.decode(event.data, type=AttemptFailed)
        self._attempt_ended(book, event, ((instruments.OUTCOME, "failed"), (instruments.ERROR, _kind(failed))))
        book.failed.add(event.stream)

    def _attempt_ended(self, book: Book, event: StoredEvent, outcome: Key) -> None:
        book.add(instruments.ATTEMPTS, outcome)
        book.received.pop(event.stream, None)
        active = self._active.get(event.stream)
        if active is not None and active.book is book:
            self._end(event.stream)
        number = request_number(event.stream)
        if number is None or self._tally.version(number) < event.version:
            self._attempts_over[event.stream] = max(event.version, self._attempts_over.get(event.stream, -1))

    def _end(self, stream: str) -> None:
        active = self._active.pop(stream)
        active.book.add(instruments.ACTIVE, active.key, -1)

    # ------------------------------------------------------------------------------------- processes, and measurements

    def _process_started(self, book: Book, event: StoredEvent) -> None:
        started = msgspec.json.decode(event.data, type=ProcessStarted)
        if started.role != "program":
            book.pid = started.pid

    def _process_sampled(self, book: Book, event: StoredEvent) -> None:
        sample = _sampled(event.data)
        self._tally.note_measuring(event.writer, sample)
        self._processes.setdefault(event.writer, Processes()).sampled(event.time, sample)
        book.raise_to(instruments.RUN_CPU, (), sample.cpu_seconds)

    def _process_measured(self, book: Book, event: StoredEvent) -> None:
        account(book, msgspec.json.decode(event.data, type=ProcessMeasured))

    def _metric_measured(self, book: Book, event: StoredEvent) -> None:
        book.measure(_measured(event.data), event.time)

    def _dropped(self, book: Book, event: StoredEvent) -> None:
        book.add(instruments.LOST, (), msgspec.json.decode(event.data, type=RecorderDropped).count)


def _kind(failed: AttemptFailed) -> str:
    """What failed: the status where there was one of 400 or more, as in `http.client.request.duration`."""
    if failed.status is not None and failed.status >= _STATUS_FAILED_MIN:
        return str(failed.status)
    return failed.error[:_KIND_SIZE_MAX]
