"""The view of a run at one moment: its fold, put into plain values with rates, ages and what is left to do.

Invariants:
    a snapshot changes nothing, and its size is bounded by the rows that were asked for.
"""

from collections import Counter
from collections.abc import Sequence

from eventflow.live import flights
from eventflow.live.ends import Stand
from eventflow.live.flights import NAMES
from eventflow.live.fold import RunFold
from eventflow.live.series import Amounts
from eventflow.live.snapshot import Courses, MachineLine, Order, Snapshot, State, Where

RATE_SECONDS = 5
_WAITING = (Where.QUEUED, Where.DELAYED)


class LiveView:
    """What a run is doing. Feed it the event lines of the run; ask for a snapshot at any time.

    Args:
        run: its name.
        stage: as its `run.json` says.
        total: how many requests its input has, where that is known.
    """

    def __init__(self, run: str, stage: str, total: int | None = None) -> None:
        self.run, self.total = run, total
        self.fold = RunFold(stage)

    def feed(self, lines: Sequence[bytes]) -> None:
        """Take event lines, without their newlines, in any order of writers. Never raises."""
        self.fold.feed(lines)

    @property
    def is_over(self) -> bool:
        """Whether the log says that the run has ended."""
        return self.fold.state not in ("starting", "running")

    def snapshot(
        self, now_ns: int, *, is_live: bool, rows: int = 20, order: Order = "age", problem: str | None = None
    ) -> Snapshot:
        """What is seen now.

        Args:
            now_ns: the time. Where nobody writes any more, that of the last event counts.
            is_live: whether somebody may be writing.
            rows: how many requests, origins and errors to give at most, each.
            order: which requests in flight come first.
            problem: what is wrong with the log.
        """
        fold = self.fold
        state = self._state(is_live=is_live, is_damaged=problem is not None)
        is_over = state not in ("starting", "running")
        now = fold.last_ns if is_over else max(now_ns, fold.last_ns)
        since = fold.since_ns or fold.first_ns or now
        whole_seconds = max(1e-3, (now - since) / 1e9) if is_over else None
        all_flights = fold.flights.values()
        places = Counter(flight.where for flight in all_flights)
        counts = fold.counts

        def rate(amounts: Amounts) -> float:
            return _rate(amounts, now, since, whole_seconds)

        return Snapshot(
            run=self.run,
            stage=fold.stage,
            state=state,
            problem=problem,
            time=now,
            started=since,
            seconds=max(0, now - since) / 1e9,
            resumed=fold.resumed,
            events=fold.events,
            events_lost=fold.events_lost,
            events_malformed=fold.events_malformed,
            events_per_second=rate(fold.events_rate),
            silent_seconds=max(0, now - fold.last_ns) / 1e9 if fold.last_ns else 0.0,
            requests=counts.total(),
            total=self.total,
            completed=counts[Stand.COMPLETED],
            failed=counts[Stand.FAILED],
            cancelled=counts[Stand.CANCELLED],
            unfinished=counts[Stand.UNFINISHED],
            states={name: places[where] for where, name in NAMES.items()},
            bytes=fold.bytes.total,
            requests_per_second=rate(fold.ended),
            bytes_per_second=rate(fold.bytes),
            seconds_left=None if is_over else self._seconds_left(now, since),
            flights=flights.lines(all_flights, now, rows, order),
            origins=fold.origins.lines(
                ((flight.origin, flight.where) for flight in all_flights), now, since, rows, is_over=is_over
            ),
            origins_known=len(fold.origins),
            attempt_errors=dict(fold.attempt_errors.most_common()),
            request_errors=dict(fold.request_errors.most_common()),
            last_errors=flights.latest(fold.problems, rows),
            workers=fold.workers,
            machine=self._machine(now, whole_seconds),
            courses=Courses(
                whole=is_over,
                requests=tuple(fold.ended_course.steps(now) if is_over else fold.ended.recent(now, since)),
                bytes=tuple(fold.bytes_course.steps(now) if is_over else fold.bytes.recent(now, since)),
            ),
        )

    def _machine(self, now_ns: int, whole_seconds: float | None) -> MachineLine:
        machine, is_over = self.fold.machine, whole_seconds is not None
        writers = Counter(flight.writer for flight in self.fold.flights.values() if flight.where not in _WAITING)
        return MachineLine(
            memory_bytes=machine.memory_bytes,
            memory_kind=machine.memory_kind,
            peak_memory_bytes=machine.peak_memory_bytes,
            cpu=machine.cpu(whole_seconds),
            processes=machine.lines(writers, is_over=is_over),
            course=tuple(machine.memory.whole(now_ns) if is_over else machine.memory.recent(now_ns)),
        )

    def _state(self, *, is_live: bool, is_damaged: bool) -> State:
        if is_damaged:
            return "damaged"
        if self.is_over:
            return self.fold.state
        if is_live:
            return "running"
        return "killed" if self.fold.events else "starting"

    def _seconds_left(self, now_ns: int, since_ns: int) -> float | None:
        fold, counts = self.fold, self.fold.counts
        if self.total is None:
            return None
        ended = counts[Stand.COMPLETED] + counts[Stand.FAILED] + counts[Stand.CANCELLED]
        return fold.ended.seconds_for(self.total - ended, now_ns, since_ns)


def _rate(amounts: Amounts, now_ns: int, since_ns: int, whole_seconds: float | None) -> float:
    if whole_seconds is not None:
        return amounts.total / whole_seconds
    return amounts.per_second(now_ns, RATE_SECONDS, since_ns)
