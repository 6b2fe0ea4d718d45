"""Fetching robots.txt: once for each origin, before its first request, for those who ask for it."""

import trio

from eventflow.director.means import Means
from eventflow.errors import RequestError
from eventflow.http.dialing import Origin
from eventflow.http.exchange import exchange
from eventflow.http.message import Head
from eventflow.http.pool import Connection
from eventflow.http.redirects import FOLLOWED, follow
from eventflow.http.robots import BYTES_MAX, Robots
from eventflow.http.url import split_url
from eventflow.http.wire import Wire

_REDIRECTS_MAX = 5  # RFC 9309 §2.3.1.2


class _Enough(Exception):
    """As much has come as counts."""


class _Answer:
    """Collects a small body."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.body = bytearray()

    def on_sent(self) -> None: ...

    def on_answering(self) -> None: ...

    def on_bytes(self) -> None: ...

    def on_head(self, head: Head) -> None:
        self.head = head

    def on_body(self, piece: bytes) -> None:
        self.body += piece
        if len(self.body) > BYTES_MAX:
            raise _Enough

    async def drain(self) -> None: ...

    async def receive_rest(self, wire: Wire, size: int) -> None:
        while size and len(self.body) <= BYTES_MAX and (piece := await wire.receive(min(size, 64 << 10))):
            self.body += piece
            size -= len(piece)
        raise _Enough


async def fetch_robots(means: Means, origin: Origin) -> tuple[int, Robots]:
    """The status of an origin's robots.txt, 0 where there was no answer, and what it asks for."""
    url = f"{origin.scheme}://{origin.authority}/robots.txt"
    for hop in range(_REDIRECTS_MAX + 1):
        try:
            with trio.fail_after(means.settings.timeout_s):
                answer = await _get(means, url)
        except RequestError as failure:
            return 0, Robots(0, problem=failure.what)
        except trio.TooSlowError:
            return 0, Robots(0, problem=f"no answer within {means.settings.timeout_s:g} s")
        assert answer.head is not None
        location = answer.head.headers.get("location")
        if hop == _REDIRECTS_MAX or not (answer.head.status in FOLLOWED and location):
            return answer.head.status, Robots(answer.head.status, bytes(answer.body))
        try:
            url = follow(url, location).url
        except RequestError:
            return answer.head.status, Robots(404)
    raise AssertionError


async def _get(means: Means, url: str) -> _Answer:
    destination, target = split_url(url)
    dialled = await means.dialer.dial(destination.origin, url)
    connection, answer = Connection(destination.origin, dialled, "robots"), _Answer()
    request = f"GET {target} HTTP/1.1\r\n".encode("ascii") + means.request_head(destination.origin) + b"\r\n"
    try:
        await exchange(connection, request, answer, url)
    except _Enough:
        pass
    finally:
        connection.close()
    return answer
