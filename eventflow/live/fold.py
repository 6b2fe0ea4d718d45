"""What a run is doing: a fold over its log, in little memory, that keeps up with a fast run.

`Tally` says how far a run is; this says what it is doing, and so looks at most types of events. At fifty thousand
events a second each microsecond counts: a line's type is found by its place, the lines that say nothing here are never
decoded, and of the others only what is needed.

Invariants:
    no line makes it raise; lines of types that say nothing here, and of unknown ones, are only counted;
    every request that was seen counts as exactly one of in flight, completed, failed, cancelled and unfinished;
    it counts by the last event of its stream, whatever the order in which the writers' logs are read;
    memory is that of the requests that have not ended, four bytes for each request, and nothing else that grows.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from eventflow.live.ends import Ends, Stand
from eventflow.live.flights import Flight, Problem
from eventflow.live.lines import (
    Line,
    count_kind,
    decode_body,
    decode_line,
    decode_queued,
    decode_response,
    decode_started,
    payload_of,
    request_of,
)
from eventflow.live.machine import Machine
from eventflow.live.origins import Origins
from eventflow.live.series import Amounts, Course
from eventflow.live.snapshot import State, Where
from eventflow.log.format import TYPE_OFFSET
from eventflow.measuring_events import ProcessSampled
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptProgressed,
    AttemptRedirected,
    AttemptSent,
    ProcessExited,
    ProcessStarted,
    RecorderDropped,
    RequestDelayed,
    RequestFailed,
    RunStarted,
)

PROBLEMS_KEPT_MAX = 20
TEXT_MAX = 2_000
_SEES_CONNECTIONS = frozenset(("director", "lineage"))


class RunFold:
    """The fold. Feed it the event lines of a run.

    Attributes:
        since_ns: when the run was started or resumed last: the begin of the sitting. Requests are counted over all
            sittings, everything else over this one.
        counts: requests by how they stand.
        flights: those that have not ended, by the name of their stream.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.state: State = "starting"
        self.events = self.events_lost = self.events_malformed = 0
        self.first_ns = self.last_ns = self.since_ns = 0
        self.workers, self.resumed = 0, False
        self.counts = Counter[Stand]()
        self.flights: dict[str, Flight] = {}
        self._ends = Ends()
        self._run_version = -1
        self._rules = self._all_rules()
        self._clear()

    def feed(self, lines: Sequence[bytes]) -> None:
        """Take event lines, without their newlines."""
        rules, time = self._rules, 0
        for line in lines:
            rule = rules.get(line[TYPE_OFFSET : line.find(b'"', TYPE_OFFSET)])
            if rule is not None:
                try:
                    event = decode_line(line)
                    rule(event)
                    time = event.time
                except (ValueError, RecursionError, OverflowError):
                    self.events_malformed += 1
        self.events += len(lines)
        if time:
            if time >= self.since_ns:
                self.events_rate.add(time, len(lines))
            self.first_ns = min(self.first_ns or time, time)
            self.last_ns = max(self.last_ns, time)

    def _clear(self) -> None:
        """Begin anew with what is of one sitting."""
        self.events_rate = Amounts()
        self.ended, self.ended_course = Amounts(), Course(sums=True)
        self.bytes, self.bytes_course = Amounts(), Course(sums=True)
        self.attempt_errors, self.request_errors = Counter[str](), Counter[str]()
        self.problems: deque[Problem] = deque(maxlen=PROBLEMS_KEPT_MAX)
        self.machine, self.origins = Machine(), Origins()

    def _all_rules(self) -> dict[bytes, Callable[[Line], object]]:
        return {
            b"run.started": self._run_started,
            b"run.completed": lambda line: self._run_ended(line, "completed"),
            b"run.interrupted": lambda line: self._run_ended(line, "interrupted"),
            b"run.failed": lambda line: self._run_ended(line, "failed"),
            b"request.queued": self._queued,
            b"request.started": self._started,
            b"request.delayed": self._delayed,
            b"request.completed": lambda line: self._end(line, Stand.COMPLETED),
            b"request.failed": self._failed,
            b"request.cancelled": lambda line: self._end(line, Stand.CANCELLED),
            b"attempt.started": self._attempt_started,
            b"attempt.sent": self._attempt_sent,
            b"attempt.answering": self._attempt_answering,
            b"attempt.response": self._attempt_response,
            b"attempt.progressed": self._attempt_progressed,
            b"attempt.body": self._attempt_body,
            b"attempt.redirected": self._attempt_redirected,
            b"attempt.failed": self._attempt_failed,
            b"process.started": self._process_started,
            b"process.sampled": self._process_sampled,
            b"process.exited": self._process_exited,
            b"limit.changed": self._limit_changed,
            b"breaker.opened": self._breaker_opened,
            b"breaker.closed": self._breaker_closed,
            b"recorder.dropped": self._dropped,
        }

    # ------------------------------------------------------------------------------------------------------ the run

    def _run_started(self, line: Line) -> None:
        started = payload_of(RunStarted, line)
        if line.version <= self._run_version:
            return
        self.state, self._run_version = "running", line.version
        self.stage, self.workers, self.resumed = started.stage, started.workers, started.resumed
        self.since_ns = line.time
        self._clear()
        for stream, flight in [item for item in self.flights.items() if item[1].seen_ns < line.time]:
            del self.flights[stream]
            self._stand(flight.number, Stand.IN_FLIGHT, Stand.UNFINISHED, flight.version)
        for flight in self.flights.values():
            flight.origin = self.origins.of_url(flight.url)

    def _run_ended(self, line: Line, state: State) -> None:
        if line.version > self._run_version:
            self.state, self._run_version = state, line.version

    def _dropped(self, line: Line) -> None:
        self.events_lost += payload_of(RecorderDropped, line).count

    # ------------------------------------------------------------------------------------------------- the requests

    def _flight(self, line: Line) -> Flight | None:
        """The request that an event moves on; None if it is no request's, or not the last of its story."""
        flight = self.flights.get(line.stream)
        if flight is None:
            flight = self._take_off(line)
            if flight is None:
                return None
        elif line.version <= flight.version:
            return None
        flight.version, flight.writer, flight.seen_ns = line.version, line.writer, line.time
        return flight

    def _take_off(self, line: Line) -> Flight | None:
        """Begin, or begin again after a resume. What an earlier sitting said last of a request leaves it unfinished."""
        number = request_of(line.stream)
        if number < 0:
            return None
        stand, version = self._ends.get(number)
        if line.version <= version:
            return None
        if line.time < self.since_ns:
            self._stand(number, stand, Stand.UNFINISHED, line.version)
            return None
        self._stand(number, stand, Stand.IN_FLIGHT, line.version)
        if self.origins.is_full():
            self.origins.prune({other.origin.name for other in self.flights.values()})
        flight = self.flights[line.stream] = Flight(number, self.origins.nowhere)
        flight.move(Where.QUEUED, line.time)
        return flight

    def _stand(self, number: int, before: Stand, after: Stand, version: int) -> None:
        if before:
            self.counts[before] -= 1
        self.counts[after] += 1
        self._ends.set(number, after, version)

    def _queued(self, line: Line) -> None:
        url = decode_queued(line.data).url[:TEXT_MAX]
        moved = self._flight(line)
        flight = moved or self.flights.get(line.stream)
        if flight is None:
            return
        if moved is not None:  # else it was read after what came of it
            moved.move(Where.QUEUED, line.time)
            moved.started_ns = moved.attempt = 0
        if moved is not None or not flight.url:
            flight.url, flight.origin = url, self.origins.of_url(url)
            flight.is_secure = url[:6].lower() == "https:"

    def _started(self, line: Line) -> None:
        if (flight := self._flight(line)) is not None:
            flight.move(Where.STARTED, line.time)
            flight.started_ns = line.time

    def _delayed(self, line: Line) -> None:
        delayed = payload_of(RequestDelayed, line)
        if (flight := self._flight(line)) is None:
            return
        flight.move(Where.DELAYED, line.time)
        flight.until_ns = line.time + int(delayed.seconds * 1e9)
        flight.reason = delayed.reason[:TEXT_MAX]
        flight.origin = self.origins.of_url(flight.url)
        flight.is_secure = flight.url[:6].lower() == "https:"
        if flight.problem is not None:
            flight.problem.outcome = "retry"

    def _failed(self, line: Line) -> None:
        failed = payload_of(RequestFailed, line)
        flight = self.flights.get(line.stream)
        if self._end(line, Stand.FAILED) and line.time >= self.since_ns:
            count_kind(self.request_errors, failed.error)
            problem = flight.problem if flight is not None else None
            url = flight.url if flight is not None else ""
            if problem is None or problem.error != failed.error:
                message = failed.message.removeprefix(f"{url}: ")
                problem = Problem(line.time, failed.error, message[:TEXT_MAX], url)
                self.problems.append(problem)
            problem.outcome = "failed"

    def _end(self, line: Line, stand: Stand) -> bool:
        """Whether it is the last event of its story."""
        flight = self.flights.get(line.stream)
        if flight is not None:
            number, before, version = flight.number, Stand.IN_FLIGHT, flight.version
        else:
            number = request_of(line.stream)
            before, version = self._ends.get(number)
        if number < 0 or line.version <= version:
            return False
        self.flights.pop(line.stream, None)
        self._stand(number, before, stand, line.version)
        if line.time >= self.since_ns:
            self.ended.add(line.time)
            self.ended_course.note(line.time, 1)
        return True

    # ------------------------------------------------------------------------------------------------- the attempts

    def _attempt_started(self, line: Line) -> None:
        started = decode_started(line.data)
        if (flight := self._flight(line)) is None:
            return
        flight.move(Where.CONNECTING if self.stage in _SEES_CONNECTIONS else Where.REQUESTING, line.time)
        flight.started_ns = flight.started_ns or line.time
        flight.begin_attempt(started.resend_count + 1)
        if started.server_address:
            scheme = "https" if flight.is_secure else "http"
            flight.origin = self.origins.at(scheme, started.server_address, started.server_port)
        flight.origin.last_ns = line.time

    def _attempt_sent(self, line: Line) -> None:
        if (flight := self._flight(line)) is not None:
            flight.move(Where.SENT, line.time)
            if b"range_start" in bytes(line.data):
                flight.begun_at = payload_of(AttemptSent, line).range_start or 0

    def _attempt_answering(self, line: Line) -> None:
        if (flight := self._flight(line)) is not None:
            flight.move(Where.ANSWERING, line.time)

    def _attempt_response(self, line: Line) -> None:
        length = decode_response(line.data).content_length
        if (flight := self._flight(line)) is not None:
            flight.move(Where.RECEIVING, line.time)
            flight.response_ns, flight.length = line.time, length

    def _attempt_progressed(self, line: Line) -> None:
        size = payload_of(AttemptProgressed, line).bytes
        if (flight := self._flight(line)) is not None:
            self._received(flight, line.time, size - flight.received)
            flight.received = size

    def _attempt_body(self, line: Line) -> None:
        size = decode_body(line.data).bytes
        flight = self._flight(line)
        if flight is None:  # read after the end of its request
            self._received(None, line.time, size)
            return
        flight.move(Where.PROCESSING, line.time)
        self._received(flight, line.time, size - flight.received)
        flight.received = size
        flight.origin.attempts.add(line.time)

    def _attempt_redirected(self, line: Line) -> None:
        url = payload_of(AttemptRedirected, line).url
        if (flight := self._flight(line)) is not None:
            flight.move(Where.STARTED, line.time)
            flight.origin.attempts.add(line.time)
            flight.origin, flight.is_secure = self.origins.of_url(url), url[:6].lower() == "https:"

    def _attempt_failed(self, line: Line) -> None:
        failed = payload_of(AttemptFailed, line)
        flight = self._flight(line)
        if line.time < self.since_ns:
            return
        count_kind(self.attempt_errors, failed.error)
        problem = Problem(line.time, failed.error, failed.message[:TEXT_MAX], flight.url if flight is not None else "")
        self.problems.append(problem)
        if flight is not None:
            flight.problem = problem
            flight.origin.attempts.add(line.time)
            flight.origin.errors += 1

    def _received(self, flight: Flight | None, when_ns: int, size: int) -> None:
        if when_ns >= self.since_ns and size > 0:
            self.bytes.add(when_ns, size)
            self.bytes_course.note(when_ns, size)
            if flight is not None:
                flight.origin.bytes.add(when_ns, size)

    # --------------------------------------------------------------------------------------- processes and origins

    def _process_started(self, line: Line) -> None:
        started = payload_of(ProcessStarted, line)
        if started.role == "program" and (flight := self._flight(line)) is not None:
            flight.move(Where.PROCESSING, line.time)
        if line.time >= self.since_ns:
            self.machine.started(line.writer, started.pid, started.role)

    def _process_sampled(self, line: Line) -> None:
        sample = payload_of(ProcessSampled, line)
        if line.time >= self.since_ns:
            self.machine.sampled(line.time, sample)

    def _process_exited(self, line: Line) -> None:
        self.machine.exited(payload_of(ProcessExited, line).pid)

    def _limit_changed(self, line: Line) -> None:
        changed = payload_of(LimitChanged, line)
        if line.time >= self.since_ns:
            self.origins.limit_changed(line.time, line.writer, changed.origin, changed.limit, changed.latency_seconds)

    def _breaker_opened(self, line: Line) -> None:
        opened = payload_of(BreakerOpened, line)
        if line.time >= self.since_ns:
            self.origins.breaker_opened(line.time, line.writer, opened.origin, opened.seconds)

    def _breaker_closed(self, line: Line) -> None:
        closed = payload_of(BreakerClosed, line)
        if line.time >= self.since_ns:
            self.origins.breaker_closed(line.time, line.writer, closed.origin)
