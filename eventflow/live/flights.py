"""The requests that have not ended: one small record each, moved on by its events."""

from collections.abc import Iterable
from heapq import nlargest, nsmallest
from typing import Literal

from eventflow.live.origins import OriginBook
from eventflow.live.snapshot import ErrorLine, FlightLine, Order, Where

NAMES = {
    Where.QUEUED: "queued",
    Where.DELAYED: "delayed",
    Where.STARTED: "starting",
    Where.REQUESTING: "requesting",
    Where.CONNECTING: "connecting",
    Where.SENT: "awaiting answer",
    Where.ANSWERING: "answering",
    Where.RECEIVING: "receiving",
    Where.PROCESSING: "processing",
}


class Problem:
    """A failure whose outcome may still be open."""

    __slots__ = ("error", "message", "outcome", "time", "url")

    def __init__(self, time: int, error: str, message: str, url: str) -> None:
        self.time, self.error, self.message, self.url = time, error, message, url
        self.outcome: Literal["retry", "failed", ""] = ""

    def line(self) -> ErrorLine:
        """As it is seen."""
        return ErrorLine(time=self.time, error=self.error, message=self.message, url=self.url, outcome=self.outcome)


class Flight:
    """One request that has not ended.

    Attributes:
        moved_ns: when it came to where it is.
        attempt: the number of its attempt, from 1.
        received: bytes of the body in this attempt; `begun_at` are those that an earlier one left.
        until_ns: when its next try is due.
        is_secure: whether it goes to an `https` URL.
    """

    __slots__ = (
        "attempt",
        "begun_at",
        "is_secure",
        "length",
        "moved_ns",
        "number",
        "origin",
        "problem",
        "reason",
        "received",
        "response_ns",
        "seen_ns",
        "started_ns",
        "until_ns",
        "url",
        "version",
        "where",
        "writer",
    )

    def __init__(self, number: int, origin: OriginBook) -> None:
        self.number, self.origin = number, origin
        self.url = self.writer = self.reason = ""
        self.version = -1
        self.where = Where.QUEUED
        self.moved_ns = self.seen_ns = self.started_ns = self.response_ns = self.until_ns = 0
        self.attempt = self.received = self.begun_at = 0
        self.is_secure = False
        self.length: int | None = None
        self.problem: Problem | None = None

    def move(self, where: Where, when_ns: int) -> None:
        """It is there now."""
        self.where, self.moved_ns = where, when_ns

    def begin_attempt(self, number: int) -> None:
        """An attempt begins, with nothing of what the one before had."""
        self.attempt = number
        self.received = self.begun_at = self.response_ns = 0
        self.length, self.reason = None, ""

    def rate(self, now_ns: int) -> float:
        """Bytes a second since the response began."""
        elapsed = now_ns - self.response_ns
        return self.received / (elapsed / 1e9) if self.response_ns and elapsed > 0 else 0.0

    def line(self, now_ns: int) -> FlightLine:
        """As it is seen."""
        return FlightLine(
            number=self.number,
            url=self.url,
            state=NAMES[self.where],
            age_seconds=max(0, now_ns - (self.started_ns or self.moved_ns)) / 1e9,
            state_seconds=max(0, now_ns - self.moved_ns) / 1e9,
            attempt=self.attempt,
            bytes=self.begun_at + self.received,
            length=None if self.length is None else self.begun_at + self.length,
            bytes_per_second=self.rate(now_ns) if self.where is Where.RECEIVING else 0.0,
            wait_seconds=max(0, self.until_ns - now_ns) / 1e9 if self.where is Where.DELAYED else 0.0,
            reason=self.reason if self.where is Where.DELAYED else "",
        )


def lines(flights: Iterable[Flight], now_ns: int, rows: int, order: Order) -> tuple[FlightLine, ...]:
    """Those that were started.

    Orders: `age`: the oldest first, and those that wait for their next try behind the others; `stuck`: those that are
    where they are for the longest time; `slow`: those whose body comes slowest, then the others, by age.
    """
    begun = (flight for flight in flights if flight.where is not Where.QUEUED)
    if order == "stuck":
        shown = nsmallest(rows, begun, key=lambda flight: (flight.moved_ns, flight.number))
    elif order == "slow":
        shown = nsmallest(rows, begun, key=lambda flight: _slowness(flight, now_ns))
    else:
        shown = nsmallest(
            rows, begun, key=lambda flight: (flight.where is Where.DELAYED, flight.started_ns, flight.number)
        )
    return tuple(flight.line(now_ns) for flight in shown)


def latest(problems: Iterable[Problem], rows: int) -> tuple[ErrorLine, ...]:
    """The last problems, the newest first."""
    return tuple(problem.line() for problem in nlargest(rows, problems, key=lambda problem: problem.time))


def _slowness(flight: Flight, now_ns: int) -> tuple[bool, float, int]:
    is_receiving = flight.where is Where.RECEIVING
    return not is_receiving, flight.rate(now_ns) if is_receiving else 0.0, flight.started_ns
