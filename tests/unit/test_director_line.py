"""The lines in front of origins: limits, turns, waits. Time is the test's own."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.director.line import Line, Lines
from eventflow.errors import RequestError
from eventflow.http.concurrency import FixedLimit
from eventflow.http.dialing import Origin
from eventflow.http.pacing import Pacer
from eventflow.http.retrying import Breaker, RetryBudget, RetryPolicy


class NoBooks:
    """Nothing is noted."""

    def succeeded(self, line: Line[Any], now_ns: int, begun_ns: int, size: int) -> None: ...

    def answered(self, line: Line[Any]) -> None: ...

    async def ask_robots(self, line: Line[Any]) -> None: ...

    def failed(self, line: Line[Any], now_ns: int, begun_ns: int, failure: RequestError, headers: object) -> None: ...


class Station:
    """Lines with a clock that the test moves."""

    def __init__(self, limit: int = 2, total_max: int = 100, rate: float | None = None) -> None:
        self.now, self._limit, self._rate = 1000.0, limit, rate
        self.lines: Lines[str] = Lines(self._make, total_max, lambda: self.now, lambda: 0.0)
        self._lines_of: dict[str, Line[str]] = {}

    def line(self, host: str) -> Line[str]:
        return self.lines.line(Origin("http", host, 80))

    def add(self, *flights: str) -> None:
        """`a1` is a request to the origin `a`."""
        for flight in flights:
            self.lines.add(flight, self.line(flight[0]))

    def take_all(self) -> list[str]:
        """Everyone who may go now."""
        return list(iter(self.lines.take, None))

    def release(self, *flights: str) -> None:
        for flight in flights:
            self.lines.release(self.line(flight[0]))

    def _make(self, origin: Origin) -> Line[str]:
        pacer = Pacer(self._rate) if self._rate else None
        return Line(origin, FixedLimit(self._limit), pacer, Breaker(1, 10.0), RetryBudget(RetryPolicy()), NoBooks())


def test_an_origin_gets_no_more_than_its_limit() -> None:
    """The others wait until one is back, in the order of their coming."""
    station = Station(limit=2)
    station.add("a1", "a2", "a3", "a4")
    assert station.take_all() == ["a1", "a2"]
    assert station.take_all() == []
    station.release("a1")
    assert station.take_all() == ["a3"]
    assert station.lines.queued == 1


def test_no_more_than_the_total() -> None:
    """However many origins there are."""
    station = Station(limit=2, total_max=3)
    station.add("a1", "a2", "b1", "b2", "c1")
    assert len(station.take_all()) == 3
    assert station.lines.is_full
    station.release("a1")
    assert len(station.take_all()) == 1


def test_each_origin_has_its_turn() -> None:
    """A long line does not make the short one wait."""
    station = Station(limit=10, total_max=6)
    station.add(*(f"a{number}" for number in range(1000)), "b1", "c1", "b2")
    assert station.take_all() == ["a0", "b1", "c1", "a1", "b2", "a2"]


def test_a_full_origin_holds_up_no_other() -> None:
    """Its line is passed over."""
    station = Station(limit=1)
    station.add("a1", "a2", "a3", "b1")
    assert station.take_all() == ["a1", "b1"]
    station.add("b2", "c1")
    assert station.take_all() == ["c1"]


def test_a_request_that_waits_for_its_time_holds_up_nobody() -> None:
    """Neither its own origin nor another; when its time has come it is the first."""
    station = Station(limit=1)
    station.lines.add_later("a1", station.line("a"), 5.0)
    station.add("a2", "a3")
    assert station.take_all() == ["a2"]
    assert station.lines.wake() == pytest.approx(5.0)
    station.now += 5.1
    assert station.lines.wake() is None
    assert station.take_all() == []
    station.release("a2")
    assert station.take_all() == ["a1"]


def test_a_place_in_one_line_is_given_back_there() -> None:
    """After a redirect the request waits in another line; the place it had is free at once."""
    station = Station(limit=1)
    station.add("a1", "a2")
    assert station.take_all() == ["a1"]
    station.lines.add("a1", station.line("b"), first=True)
    station.release("a1")
    assert sorted(station.take_all()) == ["a1", "a2"]


def test_a_rate_holds_up_its_own_origin_only() -> None:
    """One a second each, whatever the limit says, and all of them go in the end."""
    station = Station(limit=10, rate=1.0)
    station.add("a1", "a2", "a3", "b1", "b2")
    assert sorted(station.take_all()) == ["a1", "b1"]
    taken = []
    for _ in range(40):
        station.now += 0.1
        station.lines.wake()
        taken += station.take_all()
    assert sorted(taken) == ["a2", "a3", "b2"]


def test_an_open_breaker_lets_one_through_at_a_time() -> None:
    """While it is open nobody goes; then one goes to see; when that succeeds, all go."""
    station = Station(limit=10)
    line = station.line("a")
    station.add("a1", "a2", "a3", "b1")
    line.breaker.failed(station.now)
    assert station.take_all() == ["b1"]
    station.now += 10.1
    station.lines.wake()
    assert station.take_all() == ["a1"]
    line.breaker.succeeded()
    station.release("a1")
    station.now += 1.0
    station.lines.wake()
    assert station.take_all() == ["a2", "a3"]


def test_an_origin_that_is_gone_is_waited_for_by_nobody() -> None:
    """After a minute of failures requests are let go although it is open: to fail at once."""
    station = Station(limit=10)
    line = station.line("a")
    for _ in range(6):
        line.breaker.failed(station.now)
        station.now = line.breaker.until_s + 0.1
        line.breaker.admits(station.now)
    line.breaker.failed(station.now)
    assert line.is_left_alone(station.now)
    station.add("a1", "a2")
    assert station.take_all() == ["a1", "a2"]


def test_what_waits_is_known() -> None:
    """In a line, or for its time: so that their stories can be ended."""
    station = Station(limit=1)
    station.add("a1", "a2", "b1")
    station.take_all()
    station.lines.add_later("c1", station.line("c"), 60.0)
    assert sorted(station.lines.waiting()) == ["a2", "c1"]


class Traffic:
    """A station where things happen in any order, and what is known of each request."""

    def __init__(self, limit: int, total: int, rate: float | None) -> None:
        self.station, self._numbers = Station(limit, total, rate), itertools.count()
        self._limit, self._total = limit, total
        self.added: list[str] = []
        self.flying: list[str] = []
        self.gone: list[str] = []

    def add(self, host: str) -> None:
        self.added.append(f"{host}{next(self._numbers)}")
        self.station.add(self.added[-1])

    def later(self, host: str) -> None:
        self.added.append(f"{host}{next(self._numbers)}")
        self.station.lines.add_later(self.added[-1], self.station.line(host), 1.5)

    def take(self, _: object = None) -> None:
        new = self.station.take_all()
        self.flying += new
        self.gone += new
        assert len(self.flying) == self.station.lines.in_flight <= self._total
        for host in "abc":
            assert sum(flight[0] == host for flight in self.flying) == self.station.line(host).in_flight <= self._limit

    def back(self, place: int) -> None:
        if self.flying:
            self.station.release(self.flying.pop(place % len(self.flying)))

    def fail(self, host: str) -> None:
        self.station.line(host).breaker.failed(self.station.now)

    def time(self, seconds: float) -> None:
        self.station.now += seconds
        self.station.lines.wake()

    def end(self) -> None:
        """All come back, well, until all have gone."""
        for _ in range(2000):
            for flight in self.flying:
                self.station.line(flight[0]).breaker.succeeded()
                self.station.release(flight)
            self.flying.clear()
            if len(self.gone) == len(self.added):
                break
            self.time(max(0.05, self.station.lines.wake() or 0.05))
            self.take()


HOSTS = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("add"), HOSTS),
    st.tuples(st.just("later"), HOSTS),
    st.tuples(st.just("take"), st.none()),
    st.tuples(st.just("back"), st.integers(0, 5)),
    st.tuples(st.just("fail"), HOSTS),
    st.tuples(st.just("time"), st.floats(0.01, 3.0)),
)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=80), st.integers(1, 3), st.integers(1, 5), st.none() | st.floats(0.5, 20.0))
def test_nobody_is_lost_and_no_limit_passed(
    steps: list[tuple[str, Any]], limit: int, total: int, rate: float | None
) -> None:
    """Whatever happens in whatever order: the limits hold, and each request goes exactly once."""
    traffic = Traffic(limit, total, rate)
    for step, argument in steps:
        getattr(traffic, step)(argument)
        assert set(traffic.added) == set(traffic.gone) | set(traffic.station.lines.waiting())
    traffic.end()
    assert sorted(traffic.gone) == sorted(traffic.added)
