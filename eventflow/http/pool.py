"""Connections that are kept for the next request, of many origins.

Taking and giving cost the same however many there are: a stack for each origin, so that the warmest connection is used
and the others grow old and can go, and one queue over all of them by age.

Invariants:
    a connection is in the pool or with one exchange, never both;
    no more than `kept_max` are kept; the one that is idle for the longest makes room.
"""

import ssl
from collections import OrderedDict, deque
from collections.abc import Callable

from eventflow.http.dialing import Dialled, Origin
from eventflow.http.message import ResponseReader
from eventflow.http.wire import Wire, tls_session
from eventflow.sources import SystemSources

IDLE_SECONDS_MAX = 15.0  # below what common servers keep: nginx 75 s, Apache 5 s, many load balancers 60 s
KEPT_MAX = 1024
_SESSIONS_MAX = 1024


class Connection:
    """A connection to an origin: its bytes, its reader, and how often it was used.

    `last` is for whoever uses it: what the exchange before left there.
    """

    __slots__ = ("dialled", "idle_since_ns", "last", "name", "origin", "reader", "requests", "wire")

    def __init__(self, origin: Origin, dialled: Dialled, name: str) -> None:
        self.origin, self.dialled, self.name = origin, dialled, name
        self.wire: Wire = dialled.wire
        self.reader = ResponseReader()
        self.requests = 0
        self.idle_since_ns = 0
        self.last: object = None

    def close(self) -> None:
        """Close it. Idempotent, from any task."""
        self.wire.close()


class Pool:
    """The connections that nobody uses at the moment. Used by one trio run.

    Args:
        kept_max: how many are kept in all.
        idle_s: how long one is kept without use, in seconds.
        clock_ns: a monotonic clock.
    """

    def __init__(
        self, *, kept_max: int = KEPT_MAX, idle_s: float = IDLE_SECONDS_MAX, clock_ns: Callable[[], int] | None = None
    ) -> None:
        self._kept_max, self._idle_ns = kept_max, int(idle_s * 1e9)
        self._clock = clock_ns or SystemSources.monotonic_ns
        self._idle: dict[Origin, deque[Connection]] = {}
        self._by_age: OrderedDict[Connection, None] = OrderedDict()
        self._sessions: OrderedDict[Origin, ssl.SSLSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_age)

    def take(self, origin: Origin) -> Connection | None:
        """The connection to the origin that was used last, None if there is none that still works."""
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if not stack:
                del self._idle[origin]  # of a million origins nothing stays behind
            del self._by_age[connection]
            if self._clock() - connection.idle_since_ns < self._idle_ns and connection.wire.is_quiet():
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        """Keep a connection whose exchange has ended as it should."""
        connection.idle_since_ns = self._clock()
        stack = self._idle.get(connection.origin)
        if stack is None:
            stack = self._idle[connection.origin] = deque()
        stack.append(connection)
        self._by_age[connection] = None
        if connection.dialled.tls_version is not None and (session := tls_session(connection.wire)) is not None:
            self._sessions[connection.origin] = session
            if len(self._sessions) > _SESSIONS_MAX:
                self._sessions.popitem(last=False)
        self.shrink(self._kept_max)

    def session(self, origin: Origin) -> ssl.SSLSession | None:
        """A TLS session to go on with."""
        return self._sessions.get(origin)

    def prune(self) -> None:
        """Close what is idle for too long. To be called now and then."""
        oldest_ns = self._clock() - self._idle_ns
        while self._by_age and next(iter(self._by_age)).idle_since_ns < oldest_ns:
            self._drop_oldest()

    def shrink(self, size: int) -> None:
        """Close those that are idle for the longest until no more than `size` are left."""
        while len(self._by_age) > size:
            self._drop_oldest()

    def close(self) -> None:
        """Close everything that is kept."""
        while self._by_age:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        connection, _ = self._by_age.popitem(last=False)
        stack = self._idle[connection.origin]
        stack.popleft()
        if not stack:
            del self._idle[connection.origin]
        connection.close()
