"""What is seen of the origins: how much they are asked, how they answer, and what holds the requests to them back.

Invariants:
    of those to which nothing is on its way, at most 512 are remembered.
"""

import re
from collections.abc import Collection, Iterable
from heapq import nlargest

import msgspec

from eventflow.live.series import Amounts, Level
from eventflow.live.snapshot import OriginLine, Where

ORIGINS_MAX = 512
RATE_SECONDS = 5
_PORTS = {"http": 80, "https": 443}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#\\]*@)?([^/?#\\@]*)")
_HOLDING = frozenset((Where.STARTED, Where.REQUESTING, Where.CONNECTING, Where.SENT, Where.ANSWERING, Where.RECEIVING))


class OriginBook:
    """What is known of one origin."""

    __slots__ = ("attempts", "breakers", "bytes", "errors", "last_ns", "latency_seconds", "limit", "limits", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.attempts, self.bytes = Amounts(RATE_SECONDS + 2), Amounts(RATE_SECONDS + 2)
        self.errors = self.last_ns = 0
        self.latency_seconds = 0.0
        self.limit: Level | None = None
        self.limits: dict[str, int] = {}
        self.breakers: dict[str, int] = {}


class _Load(msgspec.Struct):
    queued: int = 0
    in_flight: int = 0


class Origins:
    """All origins of a run, by name: `https://example.org`, `http://[::1]:8080`.

    Attributes:
        nowhere: for what has no URL.
    """

    def __init__(self) -> None:
        self.nowhere = OriginBook("")
        self._books: dict[str, OriginBook] = {}
        self._names: dict[tuple[str, str, int], str] = {}

    def __len__(self) -> int:
        return len(self._books)

    def of_url(self, url: str) -> OriginBook:
        """The origin of a URL; `nowhere` where it is none."""
        found = _URL.match(url)
        if found is None:
            return self.nowhere
        scheme, host, port = found[1].lower(), *_split_port(found[2].lower())
        return self.at(scheme, host, port if port is not None else _PORTS.get(scheme, 0))

    def at(self, scheme: str, address: str, port: int) -> OriginBook:
        """The origin at an address."""
        key = (scheme, address, port)
        name = self._names.get(key)
        if name is None:
            if len(self._names) >= 2 * ORIGINS_MAX:
                self._names.clear()
            name = self._names[key] = _name(scheme, address, port)
        return self.book(name)

    def book(self, name: str) -> OriginBook:
        """The origin of that name."""
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = OriginBook(name)
        return book

    def is_full(self) -> bool:
        """Whether it is time to `prune`."""
        return len(self._books) > ORIGINS_MAX + ORIGINS_MAX // 4

    def prune(self, in_use: Collection[str]) -> None:
        """Forget the origins that were quiet for the longest time, but for those that are in use."""
        idle = sorted((book for book in self._books.values() if book.name not in in_use), key=lambda book: book.last_ns)
        for book in idle[: len(self._books) - ORIGINS_MAX]:
            del self._books[book.name]

    def limit_changed(self, when_ns: int, writer: str, name: str, limit: int, latency_seconds: float) -> None:
        """One process has another limit; what is shown is the sum over all of them."""
        book = self.book(name)
        if book.limit is None:
            book.limit = Level()
        book.limits[writer] = limit
        book.limit.note(when_ns, sum(book.limits.values()))
        book.latency_seconds, book.last_ns = latency_seconds, when_ns

    def breaker_opened(self, when_ns: int, writer: str, name: str, seconds: float) -> None:
        """One process leaves the origin alone for some time."""
        book = self.book(name)
        book.breakers[writer] = when_ns + int(seconds * 1e9)
        book.last_ns = when_ns

    def breaker_closed(self, when_ns: int, writer: str, name: str) -> None:
        """It answers again."""
        book = self.book(name)
        book.breakers.pop(writer, None)
        book.last_ns = when_ns

    def lines(
        self, flights: Iterable[tuple[OriginBook, Where]], now_ns: int, since_ns: int, rows: int, *, is_over: bool
    ) -> tuple[OriginLine, ...]:
        """The busiest origins first. Of a run that is over the rates are those of all its time."""
        loads: dict[str, _Load] = {}
        for book, where in flights:
            load = loads.setdefault(book.name, _Load())
            load.queued += where is Where.QUEUED or where is Where.DELAYED
            load.in_flight += where in _HOLDING
        none = _Load()

        def rank(book: OriginBook) -> tuple[int, int]:
            load = loads.get(book.name, none)
            return load.in_flight + load.queued, book.attempts.total

        ranked = nlargest(rows, self._books.values(), key=rank)
        return tuple(_line(book, loads.get(book.name, none), now_ns, since_ns, is_over=is_over) for book in ranked)


def _line(book: OriginBook, load: _Load, now_ns: int, since_ns: int, *, is_over: bool) -> OriginLine:
    limits: list[float] = []
    if book.limit is not None:
        limits = book.limit.whole(now_ns) if is_over else book.limit.recent(now_ns)
    open_until = max(book.breakers.values(), default=None)
    seconds = max(1e-9, (now_ns - since_ns) / 1e9)
    return OriginLine(
        origin=book.name,
        queued=load.queued,
        in_flight=load.in_flight,
        attempts=book.attempts.total,
        errors=book.errors,
        attempts_per_second=_rate(book.attempts, now_ns, since_ns, seconds if is_over else None),
        bytes_per_second=_rate(book.bytes, now_ns, since_ns, seconds if is_over else None),
        latency_seconds=book.latency_seconds,
        limit=int(book.limit.value) if book.limit is not None else None,
        limits=tuple(limits),
        breaker_seconds=max(0.0, (open_until - now_ns) / 1e9) if open_until is not None else None,
    )


def _rate(amounts: Amounts, now_ns: int, since_ns: int, whole_seconds: float | None) -> float:
    if whole_seconds is not None:
        return amounts.total / whole_seconds
    return amounts.per_second(now_ns, RATE_SECONDS, since_ns)


def _split_port(authority: str) -> tuple[str, int | None]:
    host, colon, port = authority.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and len(port) <= 5:
        return host.strip("[]"), int(port)
    return authority.removesuffix(":").strip("[]"), None


def _name(scheme: str, address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}" if _PORTS.get(scheme) == port else f"{scheme}://{host}:{port}"
