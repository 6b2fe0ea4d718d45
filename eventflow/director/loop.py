"""The director's loop: reads the input as far as there is room, lets requests go, and watches over those in flight.

One trio run, one nursery. Each request that may go is a coroutine, which the reactor (`eventflow.director.reactor`)
drives, and which lets the next one go at its end; what waits is in the lines (`eventflow.director.line`).

Invariants:
    at most `AHEAD_MAX` requests are read before their turn, so a list of any length needs the same memory;
    when `run_director` returns or raises, no task, no connection and no thread of it is left, and every request that
    was on its way has an end in the log, or is durable and completed.
"""

import contextlib
import random
import resource
from collections.abc import Callable

import trio

from eventflow.director.flight import Flight
from eventflow.director.line import Lines
from eventflow.director.means import Means
from eventflow.director.origins import Origins
from eventflow.errors import RequestError, StoreError
from eventflow.http.dialing import Origin
from eventflow.landing import Landing
from eventflow.story import QueuedRequest
from eventflow.work import Work

AHEAD_MIN, AHEAD_MAX = 64, 4096
IN_FLIGHT_MAX = 1024
_TICK_SECONDS = 0.05
_CHECK_SECONDS = 0.25
_DESCRIPTORS = 8192


async def run_director(work: Work, *, reads_inline: bool) -> None:
    """Carry out every request of `work`. Cancel it to stop: what is in flight is cancelled, parts are kept.

    Args:
        work: the requests.
        reads_inline: whether reading the input never waits for long (a file); else a thread reads (a pipe).

    Raises:
        StoreError: the log cannot be written.
    """
    _allow_descriptors()
    token = trio.lowlevel.current_trio_token()

    landing = Landing(work.folder, work.recorder.run, lambda function: token.run_sync_soon(_call, function))
    means = Means(work, landing)
    director = Director(work, means, reads_inline=reads_inline)
    try:
        await director.fly_all()
    finally:
        means.close()
        with trio.CancelScope(shield=True):
            await director.settle()


def _call(function: Callable[[], None]) -> None:
    with contextlib.suppress(StoreError):  # the watch raises it, where it can be raised
        function()


class Director:
    """The loop of one process.

    Args:
        work: the requests.
        means: what they share.
        reads_inline: see `run_director`.
    """

    def __init__(self, work: Work, means: Means, *, reads_inline: bool) -> None:
        self._work, self._means, self._reads_inline = work, means, reads_inline
        self._chance = random.Random(means.sources.trace_id()).random  # noqa: S311  (jitter)
        self._origins = Origins(work, means, self._now, self._chance)
        self.lines: Lines[Flight] = Lines(
            self._origins.make, min(IN_FLIGHT_MAX, work.settings.in_flight_max), self._now, self._chance
        )
        self._has_ended = False  # the input
        self._unfinished = 0
        self._all_done = trio.Event()
        self._hungry = trio.Event()
        self._reactor = means.reactor
        self._nursery: trio.Nursery

    async def fly_all(self) -> None:
        """From the first request to the end of the last."""
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._reactor.run, self._nursery)
            self._nursery.start_soon(self._watch)
            if not self._reads_inline:
                self._nursery.start_soon(self._feed)
            self._pump()
            self._end_if_done()
            await self._all_done.wait()
            self._nursery.cancel_scope.cancel()

    async def settle(self) -> None:
        """After the loop: finish what is being stored, end the stories of those that wait for another try."""
        for flight in self.lines.waiting():
            flight.cancel()
        await trio.to_thread.run_sync(self._means.landing.close, limiter=self._means.threads)
        await self._means.all_stored()

    def _now(self) -> float:
        return self._means.clock() / 1e9

    # ------------------------------------------------------------------------------------------------------- workers

    def _pump(self) -> None:
        """Let everyone go who may go now."""
        while (flight := self._next()) is not None:
            self._reactor.start(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        line = flight.line
        try:
            await flight.fly()
        finally:
            self.lines.release(line)
        if self._origins.take_grown():
            self._pump()
        elif (following := self._next()) is not None:
            self._reactor.start(self._fly(following))

    def _next(self) -> Flight | None:
        """The next request that may go, reading on in the input as far as it takes."""
        if self._reads_inline and self.lines.queued < AHEAD_MIN:
            self._read()
        while (flight := self.lines.take()) is None:
            if not self._reads_inline or self._has_ended or self.lines.is_full or self.lines.queued >= AHEAD_MAX:
                break
            self._read()
        if self.lines.queued < AHEAD_MAX:
            self._hungry.set()
        return flight

    # --------------------------------------------------------------------------------------------------------- input

    def _read(self) -> None:
        for _ in range(AHEAD_MIN):
            if self._has_ended or not self._take_in(self._work.next()):
                return

    def _take_in(self, queued: QueuedRequest | None) -> bool:
        if queued is None:
            self._has_ended = True
            self._end_if_done()
            return False
        part = self._work.part(queued.request.number)
        flight = Flight(self._means, queued, part, admit=self._admit, judge=self._judge, ended=self._ended)
        line = flight.line = self.lines.line(flight.destination.origin)
        self._unfinished += 1
        self.lines.add(flight, line)
        return True

    async def _feed(self) -> None:
        """Read an input that may keep us waiting, in a thread."""
        while not self._has_ended:
            if self.lines.queued >= AHEAD_MAX:
                self._hungry = trio.Event()
                await self._hungry.wait()
            read = trio.to_thread.run_sync(self._work.next, abandon_on_cancel=True, limiter=self._means.threads)
            self._take_in(await read)
            self._pump()

    # ------------------------------------------------------------------------------------------------ what flights ask

    def _admit(self, flight: Flight, origin: Origin, seconds: float) -> None:
        flight.line = self.lines.line(origin)
        if seconds > 0:
            self.lines.add_later(flight, flight.line, seconds)
        else:
            self.lines.add(flight, flight.line, first=True)

    def _judge(self, flight: Flight, failure: RequestError, progressed_at: int) -> tuple[float, str] | None:
        return self._origins.judge(flight.line, failure, flight.state.tries, progressed_at)

    def _ended(self, _flight: Flight) -> None:
        self._unfinished -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._has_ended and not self._unfinished:
            self._all_done.set()

    # --------------------------------------------------------------------------------------------------------- watch

    async def _watch(self) -> None:
        """What depends on time: waits that end, attempts that take too long, connections that are idle."""
        check_at = 0.0
        while True:
            wait = self.lines.wake()
            self._pump()
            now = self._now()
            if now >= check_at:
                check_at = now + _CHECK_SECONDS
                self._check()
            await trio.sleep(min(_TICK_SECONDS, max(0.001, wait)) if wait is not None else _TICK_SECONDS)

    def _check(self) -> None:
        if (failure := self._work.recorder.failure) is not None:
            raise failure
        now_ns = self._means.clock()
        for attempt in list(self._means.attempts):
            attempt.check(now_ns)
        self._means.pool.prune()
        self._origins.tick()
        if self._origins.take_grown():
            self._pump()


def _allow_descriptors() -> None:
    """A thousand connections and as many files need more descriptors than many systems give at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
