"""What all requests of one director share: clients, folder, threads, settings."""

import contextlib
import os
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Protocol

import trio

from eventflow.director.lanes import Lanes
from eventflow.director.reactor import Reactor
from eventflow.errors import StoreError
from eventflow.http.decoding import DecodingLimits, accept_encoding
from eventflow.http.dialing import Dialer, Origin
from eventflow.http.pool import Pool
from eventflow.landing import Landing
from eventflow.propagation import Origins, Propagation
from eventflow.recorder import Span
from eventflow.work import Work

_LOOK_SECONDS = 0.25
_THREADS = 8


class Watched(Protocol):
    """Something that may take too long."""

    def check(self, now_ns: int) -> None:
        """Stop if it has taken too long, by the monotonic clock."""
        ...


class Means:
    """Made inside the trio run that uses it.

    Args:
        place: the recorder, the output folder, the store and the tally of this process.
        landing: where small files go.
    """

    def __init__(self, place: Work, landing: Landing) -> None:
        settings = place.settings
        self.tally = place.tally
        self.place, self.settings, self.landing = place, settings, landing
        self.folder, self.store, self.run = place.folder, place.store, place.recorder.run
        self.sources = place.recorder.sources
        self.clock = self.sources.monotonic_ns
        self.token = trio.lowlevel.current_trio_token()
        self.pool = Pool(clock_ns=self.clock)
        self.reactor = Reactor()
        self.dialer = Dialer(connect_s=settings.timeout_s, sources=self.sources, readiness=self.reactor)
        self.lanes = Lanes()
        # Not trio's own: that one is used up by lookups of names which nobody waits for any more.
        self.threads = trio.CapacityLimiter(_THREADS)
        self.decoding_limits = DecodingLimits()
        self.attempts: set[Watched] = set()
        self.storing = 0  # files that are on their way to be durable
        self._room = trio.Event()
        self._names = count()
        self._writer = place.recorder.writer
        self.request_head = lru_cache(maxsize=1024)(self._make_request_head)
        self._told, self._propagation = Origins(settings.propagate), Propagation(os.environ)
        self.headers = self._headers_with_context if settings.propagate else self._headers

    def connection_name(self) -> str:
        """A name for a connection that no other of the run has."""
        return f"{self._writer}-{next(self._names)}"

    async def room(self) -> None:
        """Wait while too many files are on their way to be durable."""
        if self.landing.is_full:
            await self.reactor.into_task()
        while self.landing.is_full:
            await self._next_stored()

    async def all_stored(self) -> None:
        """Wait until no file is on its way any more."""
        while self.storing and self.place.recorder.failure is None:
            with trio.move_on_after(_LOOK_SECONDS):  # the log may fail meanwhile
                await self._next_stored()

    def stored(self) -> None:
        """A file is durable, or will never be."""
        self.storing -= 1
        self._room.set()

    def quietly(self, function: Callable[..., None]) -> Callable[..., None]:
        """The function, for trio to call: a log that fails is raised by the loop's watch, where it can be raised."""

        def call(*arguments: object) -> None:
            with contextlib.suppress(StoreError):
                function(*arguments)

        return call

    def discard_part(self, name: str, temporary: str) -> None:
        """Remove a part that an earlier attempt kept, if it is there."""
        with contextlib.suppress(OSError):
            self.folder.reopen(name, temporary).discard()

    def close(self) -> None:
        """Close the connections that are kept, end the threads of large bodies."""
        self.pool.close()
        self.lanes.close()

    async def _next_stored(self) -> None:
        """Wait for the next file; whoever else waits, waits for the same event."""
        if self._room.is_set():
            self._room = trio.Event()
        await self._room.wait()

    def _headers(self, origin: Origin, _span: Span) -> bytes:
        return self.request_head(origin)

    def _headers_with_context(self, origin: Origin, span: Span) -> bytes:
        """With the ids of the attempt's span, if the origin is to know them."""
        head = self.request_head(origin)
        if not self._told.allows(origin.scheme, origin.host, origin.port):
            return head
        context = self._propagation.headers(span.stream.trace_id, span.span_id)
        return head + "".join(f"{name}: {value}\r\n" for name, value in context.items()).encode("ascii")

    def _make_request_head(self, origin: Origin) -> bytes:
        """The headers that are the same for every request to an origin."""
        encoding = accept_encoding() if self.settings.decode else "identity"
        lines = [
            f"Host: {origin.authority}",
            f"User-Agent: {self.settings.user_agent}",
            "Accept: */*",
            f"Accept-Encoding: {encoding}",
        ]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
