"""The line of requests in front of one origin, and who may go next.

Between the input, which comes as fast as it can be read, and the origins, each of which takes only so much. A request
that has to wait is a few hundred bytes in a queue, not a task.

Invariants:
    to an origin there are never more requests in flight than its limit says, nor more in all than the total;
    a request that waits for its time holds up nobody else;
    of several origins each gets its turn.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Generic, Protocol, TypeVar

import trio

from eventflow.errors import RequestError
from eventflow.http.concurrency import AdaptiveLimit, FixedLimit
from eventflow.http.dialing import Origin
from eventflow.http.pacing import Pacer
from eventflow.http.retrying import Breaker, RetryBudget
from eventflow.http.robots import Robots

_ABSENT_OPENINGS = 6
WaitingT = TypeVar("WaitingT")


class Books(Protocol):
    """Who keeps account of how the attempts at an origin end. Times are the monotonic clock's, in nanoseconds."""

    def succeeded(self, line: "Line[WaitingT]", now_ns: int, begun_ns: int, size: int) -> None:
        """An attempt brought what was asked for: `size` bytes."""
        ...

    def answered(self, line: "Line[WaitingT]") -> None:
        """The origin is well, whatever it said."""
        ...

    async def ask_robots(self, line: "Line[WaitingT]") -> None:
        """See to it that `line.robots` is there."""
        ...

    def failed(
        self,
        line: "Line[WaitingT]",
        now_ns: int,
        begun_ns: int,
        failure: RequestError,
        headers: Mapping[str, str] | None,
    ) -> None:
        """An attempt failed, perhaps after a response with these headers."""
        ...


class Line(Generic[WaitingT]):
    """What is known of one origin, and who waits for it."""

    __slots__ = (
        "books",
        "breaker",
        "budget",
        "in_flight",
        "is_open",
        "is_ready",
        "latency_s",
        "limit",
        "limit_said",
        "origin",
        "pacer",
        "queue",
        "robots",
        "robots_asked",
    )

    def __init__(
        self,
        origin: Origin,
        limit: AdaptiveLimit | FixedLimit,
        pacer: Pacer | None,
        breaker: Breaker,
        budget: RetryBudget,
        books: Books,
    ) -> None:
        self.origin, self.limit, self.pacer = origin, limit, pacer
        self.breaker, self.budget, self.books = breaker, budget, books
        self.robots: Robots | None = None
        self.robots_asked: trio.Event | None = None
        self.queue: deque[WaitingT] = deque()
        self.in_flight = 0
        self.is_ready = False  # it is in the ring
        self.is_open = False  # the breaker, as it was said
        self.limit_said = 0
        self.latency_s = 0.0

    def is_left_alone(self, now_s: float) -> bool:
        """Whether the origin has been unwell for so long (a minute) that nobody waits for it: requests fail at once.

        But for the probes, which go on.
        """
        return self.breaker.opened >= _ABSENT_OPENINGS and now_s < self.breaker.until_s

    def hold_until(self, when_s: float) -> None:
        """Let nobody go before that time of the monotonic clock: the origin asked for it."""
        if self.pacer is None:
            self.pacer = Pacer(None)
        self.pacer.hold_until(when_s)


class Lines(Generic[WaitingT]):
    """All origins. Used by one trio run; nothing in here waits.

    Args:
        make: what a new origin's line is.
        total_max: how many may be in flight in all.
        now: the monotonic clock, in seconds.
        chance: random numbers in [0, 1).
    """

    def __init__(
        self,
        make: Callable[[Origin], Line[WaitingT]],
        total_max: int,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._make, self._total_max, self._now, self._chance = make, total_max, now, chance
        self.by_origin: dict[Origin, Line[WaitingT]] = {}
        self._ring: deque[Line[WaitingT]] = deque()
        self._later: list[tuple[float, int, Line[WaitingT], WaitingT | None]] = []
        self._order = count()
        self.queued = 0
        self.in_flight = 0

    @property
    def is_full(self) -> bool:
        """Whether no more may be in flight in all."""
        return self.in_flight >= self._total_max

    def line(self, origin: Origin) -> Line[WaitingT]:
        """The line of an origin."""
        line = self.by_origin.get(origin)
        if line is None:
            line = self.by_origin[origin] = self._make(origin)
        return line

    def add(self, flight: WaitingT, line: Line[WaitingT], *, first: bool = False) -> None:
        """Put a request into a line, at its end or as the first."""
        if first:
            line.queue.appendleft(flight)
        else:
            line.queue.append(flight)
        self.queued += 1
        self._make_ready(line)

    def add_later(self, flight: WaitingT, line: Line[WaitingT], seconds: float) -> None:
        """Put a request into a line when some time has passed."""
        heapq.heappush(self._later, (self._now() + seconds, next(self._order), line, flight))

    def take(self) -> WaitingT | None:
        """The next request that may go now; give its place back with `release`."""
        if self.is_full:
            return None
        ring = self._ring
        while ring:
            line = ring[0]
            if not line.queue or line.in_flight >= line.limit.limit:
                ring.popleft().is_ready = False
                continue
            wait = self._wait(line)
            if wait > 0 and not line.is_left_alone(self._now()):
                ring.popleft().is_ready = False
                heapq.heappush(self._later, (self._now() + wait, next(self._order), line, None))
                continue
            if len(ring) > 1:
                ring.rotate(-1)
            self.queued -= 1
            self.in_flight += 1
            line.in_flight += 1
            return line.queue.popleft()
        return None

    def release(self, line: Line[WaitingT]) -> None:
        """A request is not in flight any more."""
        line.in_flight -= 1
        self.in_flight -= 1
        self._make_ready(line)

    def wake(self) -> float | None:
        """Let in who has waited long enough; gives the seconds until there is something to do again."""
        now = self._now()
        while self._later and self._later[0][0] <= now:
            _, _, line, flight = heapq.heappop(self._later)
            if flight is not None:
                self.add(flight, line, first=True)
            else:
                self._make_ready(line)
        return self._later[0][0] - now if self._later else None

    def waiting(self) -> list[WaitingT]:
        """Every request that is in a line or waits for its time."""
        flights = [flight for line in self.by_origin.values() for flight in line.queue]
        return flights + [flight for _, _, _, flight in self._later if flight is not None]

    def _wait(self, line: Line[WaitingT]) -> float:
        now = self._now()
        if line.breaker.opened and now < line.breaker.until_s:
            return line.breaker.until_s - now
        wait = line.pacer.next_start(now, self._chance()) if line.pacer is not None else 0.0
        return wait or line.breaker.admits(now)  # the last to be asked: it may admit its one probe

    def _make_ready(self, line: Line[WaitingT]) -> None:
        if not line.is_ready and line.queue:
            line.is_ready = True
            self._ring.append(line)
