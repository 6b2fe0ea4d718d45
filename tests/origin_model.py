"""A model of an origin and of a client that keeps as many requests in flight as a limit allows, in simulated time.

A request waits for one of the origin's places, holds it for the latency, then passes the origin's CPU, the link and our
own CPU one after the other; each of these serves one at a time, at once if it is free. Seeded: it repeats.
"""

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

_TICK_SECONDS = 0.25


class Limit(Protocol):
    """What the model asks of a limit."""

    limit: int

    def finished(self, now_s: float, latency_s: float, in_flight: int, size_bytes: int, ok: bool) -> bool:
        """Take account of a request that ended."""
        ...

    def waited(self, now_s: float) -> bool:
        """Take account of silence."""
        ...


@dataclass
class ModelOrigin:
    """What an origin is like. All of it may be changed while it runs.

    Attributes:
        latency_s: how long a request holds one of its places.
        places: how many it handles at once; the others wait in line.
        bandwidth: bytes a second in all.
        cpu_s: serialised work for each request.
        refuse_above: it answers 503 to what comes when so many are inside; None for never.
        noise: sigma of the log-normal factor of latencies.
        lost: the share of requests that fail whatever the load.
        thrash_above: with more inside, everything takes ten times as long.
    """

    latency_s: float = 0.02
    places: int = 32
    bandwidth: float = float("inf")
    cpu_s: float = 0.0
    refuse_above: int | None = None
    noise: float = 0.0
    lost: float = 0.0
    thrash_above: int | None = None
    inside: int = 0
    line: deque["_Request"] = field(default_factory=deque)
    held: int = 0
    cpu_free_s: float = 0.0
    link_free_s: float = 0.0


@dataclass
class ModelClient:
    """A client: its limit, the median and sigma of its files' sizes, and its own serialised CPU for each request."""

    limit: Limit
    size: int = 10_240
    size_spread: float = 0.0
    cpu_s: float = 0.00002
    want: int = 1_000_000  # in flight at most, as if there were no more to do
    in_flight: int = 0
    cpu_free_s: float = 0.0
    ended: list[float] = field(default_factory=list)
    failed: int = 0
    limits: list[tuple[float, int]] = field(default_factory=list)

    def rate(self, start_s: float, end_s: float) -> float:
        """Requests a second that succeeded in a time."""
        return sum(start_s < ended <= end_s for ended in self.ended) / (end_s - start_s)

    def limit_at(self, now_s: float) -> int:
        """The limit at a time."""
        return [limit for at_s, limit in self.limits if at_s <= now_s][-1]


@dataclass(slots=True)
class _Request:
    client: ModelClient
    began_s: float
    size: int
    ok: bool = True


class Simulation:
    """Some clients and one origin. `run` may be called again, with the origin changed in between."""

    def __init__(self, origin: ModelOrigin, *clients: ModelClient, seed: int = 1) -> None:
        self.origin, self.clients, self.now_s = origin, clients, 0.0
        self._random = random.Random(seed)
        self._number = itertools.count()
        self._queue: list[tuple[float, int, int, _Request]] = []
        for client in clients:
            client.limits.append((0.0, client.limit.limit))
            self._push(_TICK_SECONDS, 4, _Request(client, 0.0, 0))

    def run(self, until_s: float, requests: int | None = None) -> None:
        """Go on until a time, or until the first client has ended so many requests in all."""
        stages = (self._leave_place, self._leave_cpu, self._leave_link, self._end, self._wait)
        for client in self.clients:
            self._fill(client)
        first = self.clients[0]
        while self._queue and self._queue[0][0] <= until_s and (requests is None or len(first.ended) < requests):
            self.now_s, _, stage, request = heapq.heappop(self._queue)
            stages[stage](request)
        if requests is None:
            self.now_s = until_s

    def _push(self, at_s: float, stage: int, request: _Request) -> None:
        heapq.heappush(self._queue, (at_s, next(self._number), stage, request))

    def _fill(self, client: ModelClient) -> None:
        origin = self.origin
        while client.in_flight < min(client.limit.limit, client.want):
            client.in_flight += 1
            size = client.size
            if client.size_spread:
                size = max(1, int(size * self._random.lognormvariate(0, client.size_spread)))
            request = _Request(client, self.now_s, size)
            if origin.lost and self._random.random() < origin.lost:
                request.ok = False
            if origin.refuse_above is not None and origin.inside >= origin.refuse_above:
                request.ok = False
                self._push(self.now_s + 0.002, 3, request)
                continue
            origin.inside += 1
            origin.line.append(request)
        self._admit()

    def _admit(self) -> None:
        origin = self.origin
        while origin.line and origin.held < origin.places:
            origin.held += 1
            factor = self._random.lognormvariate(0, origin.noise) if origin.noise else 1.0
            if origin.thrash_above is not None and origin.inside > origin.thrash_above:
                factor *= 10
            self._push(self.now_s + origin.latency_s * factor, 0, origin.line.popleft())

    def _leave_place(self, request: _Request) -> None:
        origin = self.origin
        origin.held -= 1
        origin.inside -= 1
        self._admit()
        origin.cpu_free_s = max(origin.cpu_free_s, self.now_s) + origin.cpu_s
        self._push(origin.cpu_free_s, 1, request)

    def _leave_cpu(self, request: _Request) -> None:
        origin = self.origin
        origin.link_free_s = max(origin.link_free_s, self.now_s) + request.size / origin.bandwidth
        self._push(origin.link_free_s, 2, request)

    def _leave_link(self, request: _Request) -> None:
        client = request.client
        client.cpu_free_s = max(client.cpu_free_s, self.now_s) + client.cpu_s
        self._push(client.cpu_free_s, 3, request)

    def _wait(self, request: _Request) -> None:
        """Look for silence now and then, as a client's clock does."""
        client = request.client
        if client.in_flight and client.limit.waited(self.now_s):
            client.limits.append((self.now_s, client.limit.limit))
            self._fill(client)
        self._push(self.now_s + _TICK_SECONDS, 4, request)

    def _end(self, request: _Request) -> None:
        client, size = request.client, request.size if request.ok else 0
        if request.ok:
            client.ended.append(self.now_s)
        else:
            client.failed += 1
        if client.limit.finished(self.now_s, self.now_s - request.began_s, client.in_flight, size, request.ok):
            client.limits.append((self.now_s, client.limit.limit))
        client.in_flight -= 1
        self._fill(client)
