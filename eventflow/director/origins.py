"""What the director knows and says of each origin: how it does, how much it takes, whether a failure is worth a retry.

Invariants:
    retries to an origin are at most a share of its successes, so an outage is not made worse;
    a change of a limit, and a breaker that opens or closes, is an event in the origin's own stream.
"""

from collections.abc import Callable, Mapping
from typing import Any

import trio

from eventflow.director.flight import Flight
from eventflow.director.keeping import PartOutdated
from eventflow.director.line import Line
from eventflow.director.means import Means
from eventflow.director.robots_file import fetch_robots
from eventflow.errors import ConnectionLost, ConnectRefused, HttpStatus, RequestError, TimedOut
from eventflow.http.concurrency import AdaptiveLimit, FixedLimit
from eventflow.http.dialing import Origin
from eventflow.http.pacing import Pacer
from eventflow.http.retrying import (
    Again,
    Breaker,
    RetryBudget,
    RetryPolicy,
    decide_retry,
    is_answer,
    is_unwell,
    parse_rate_limit,
)
from eventflow.origin_events import BreakerClosed, BreakerOpened, LimitChanged, RobotsRead
from eventflow.recorder import Span
from eventflow.work import Work

_OVERLOAD = (TimedOut, ConnectionLost, ConnectRefused)
_OVERLOAD_STATUSES = frozenset((429, 503))


class Origins:
    """Makes the lines and keeps the books of them.

    Args:
        work: for its recorder and settings.
        means: for the clock.
        now: the monotonic clock, in seconds.
        chance: random numbers in [0, 1).
    """

    def __init__(self, work: Work, means: Means, now: Callable[[], float], chance: Callable[[], float]) -> None:
        self._work, self._means, self._now, self._chance = work, means, now, chance
        self._policy = RetryPolicy(attempts_max=work.settings.retries + 1)
        self._spans: dict[Origin, Span] = {}
        self._lines: list[Line[Flight]] = []
        self._grown = False

    def make(self, origin: Origin) -> Line[Flight]:
        """The line of an origin that was not met before."""
        settings = self._work.settings
        limit = AdaptiveLimit() if settings.concurrency is None else FixedLimit(settings.concurrency)
        pacer = Pacer(settings.rate) if settings.rate is not None else None
        line: Line[Flight] = Line(origin, limit, pacer, Breaker(), RetryBudget(self._policy), self)
        self._lines.append(line)
        return line

    def take_grown(self) -> bool:
        """Whether some limit changed since the last time."""
        grown, self._grown = self._grown, False
        return grown

    def succeeded(self, line: Line[Any], now_ns: int, begun_ns: int, size: int) -> None:
        """An attempt brought what was asked for."""
        line.budget.succeeded()
        self.answered(line)
        seconds = (now_ns - begun_ns) / 1e9
        if line.limit.finished(now_ns / 1e9, seconds, line.in_flight, size, True):
            line.latency_s, self._grown = seconds, True

    def answered(self, line: Line[Any]) -> None:
        """The origin is well, whatever it said."""
        line.breaker.succeeded()
        if line.is_open:
            line.is_open = False
            self._span(line).record(BreakerClosed(origin=_called(line.origin)))

    def failed(
        self, line: Line[Any], now_ns: int, begun_ns: int, failure: RequestError, headers: Mapping[str, str] | None
    ) -> None:
        """An attempt failed."""
        now_s, seconds = now_ns / 1e9, (now_ns - begun_ns) / 1e9
        status = failure.status if isinstance(failure, HttpStatus) else None
        too_much = isinstance(failure, _OVERLOAD) or status in _OVERLOAD_STATUSES
        if line.limit.finished(now_s, seconds, line.in_flight, 0, not too_much):
            line.latency_s, self._grown = seconds, True
        if is_answer(failure):
            self.answered(line)
        if is_unwell(failure) and line.breaker.failed(now_s, begun_ns / 1e9):
            line.is_open = True
            seconds = line.breaker.until_s - now_s
            self._span(line).record(BreakerOpened(origin=_called(line.origin), seconds=seconds))
        if headers is not None and (wait := parse_rate_limit(headers, self._means.sources.time_ns() / 1e9)):
            line.hold_until(now_s + min(wait, self._policy.retry_after_cap_s))

    def judge(self, line: Line[Any], failure: RequestError, tries: int, progressed_at: int) -> tuple[float, str] | None:
        """Whether a failed request is worth another try: after how many seconds, and why."""
        if isinstance(failure, PartOutdated):
            return 0.0, failure.what
        now_s = self._means.sources.time_ns() / 1e9
        verdict = decide_retry(
            self._policy, failure, attempt=tries, chance=self._chance(), now_s=now_s, progressed_at=progressed_at
        )
        if not isinstance(verdict, Again) or not line.budget.take():
            return None
        return verdict.seconds, verdict.reason

    async def ask_robots(self, line: Line[Any]) -> None:
        """Read the origin's robots.txt, once; whoever else asks meanwhile waits."""
        if line.robots is not None:
            return
        if line.robots_asked is not None:
            await line.robots_asked.wait()
            return
        line.robots_asked = trio.Event()
        try:
            status, line.robots = await fetch_robots(self._means, line.origin)
            read = RobotsRead(origin=_called(line.origin), status=status, problem=line.robots.problem)
            self._span(line).record(read)
            delay = line.robots.crawl_delay(self._work.settings.user_agent)
            if delay and (self._work.settings.rate or 1e9) > 1 / delay:
                line.pacer = Pacer(1 / delay)
        finally:
            line.robots_asked.set()

    def tick(self) -> None:
        """Say what has changed; called a few times a second."""
        now_s = self._now()
        for line in self._lines:
            if line.in_flight and line.limit.waited(now_s):
                self._grown = True
            if line.limit.limit != line.limit_said:
                line.limit_said = line.limit.limit
                self._span(line).record(
                    LimitChanged(
                        origin=_called(line.origin),
                        limit=line.limit_said,
                        in_flight=line.in_flight,
                        latency_seconds=line.latency_s,
                    )
                )

    def _span(self, line: Line[Any]) -> Span:
        span = self._spans.get(line.origin)
        if span is None:
            recorder = self._work.recorder
            name = f"origin-{_called(line.origin)}-{recorder.writer}"
            span = self._spans[line.origin] = recorder.open_stream(name)
        return span


def _called(origin: Origin) -> str:
    """An origin as RFC 6454 §6.2 writes it: http://a and https://a are two, each with a story of its own."""
    return f"{origin.scheme}://{origin.authority}"
