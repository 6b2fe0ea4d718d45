"""A request of httpx as bytes of HTTP/1.1: its head, and its body by Content-Length or in chunks (RFC 9112 §6).

Invariants:
    nothing that a user puts into a method, a target or a header makes a second line of it;
    what is sent as a body is exactly what Content-Length says, or the exchange fails.
"""

import math
import re
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import trio

from eventflow.http.dialing import Origin
from eventflow.http.wire import Wire

_SEND_BYTES = 256 << 10
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110 §9.2.2
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"[\x21-\x7e]+")
_NOT_IN_VALUE = re.compile(rb"[\x00\r\n]")


BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class _Unwanted(Exception):
    """The connection broke while something was sent."""


class Outgoing:
    """A request as it is sent. Made before anything is, so that a wrong one costs no connection.

    Raises:
        httpx.LocalProtocolError: it cannot be said in HTTP/1.1.
    """

    __slots__ = ("_head", "_is_chunked", "_length", "_seconds", "keeps", "may_repeat", "origin", "request", "shown")

    def __init__(self, request: httpx.Request) -> None:
        self.request, url = request, request.url
        scheme = url.scheme
        self.origin = Origin(scheme, url.raw_host.decode("ascii"), _port(url))
        self.shown = f"{scheme}://{self.origin.authority}"
        self._seconds: dict[str, float | None] = request.extensions.get("timeout", {})
        names = [name.lower() for name, _ in request.headers.raw]
        headers = dict(zip(names, (value for _, value in request.headers.raw), strict=True))
        self._is_chunked, self._length = self._frame(names, headers)
        self._head = self._make_head(names)
        self.keeps = b"close" not in headers.get(b"connection", b"").lower()
        self.may_repeat = request.method in _IDEMPOTENT and isinstance(request.stream, httpx.ByteStream)

    def seconds(self, phase: str) -> float:
        """How long a phase may take: pool, connect, write or read."""
        seconds = self._seconds.get(phase)
        return math.inf if seconds is None else seconds

    async def send(self, wire: Wire) -> bool:
        """Send it all; gives whether it went. The other side may have closed because it wants no more of the body.

        Raises:
            httpx.WriteTimeout: the other side took nothing within the time allowed.
            httpx.LocalProtocolError: the body is not as long as Content-Length says.
            Exception: whatever the body raised.
        """
        try:
            await self._send_all(wire)
        except _Unwanted:
            return False
        return True

    async def _send_all(self, wire: Wire) -> None:
        assert isinstance(self.request.stream, httpx.AsyncByteStream)
        body = aiter(self.request.stream)
        try:
            is_at_hand = isinstance(self.request.stream, httpx.ByteStream)
            # Nobody knows when the first part of another one comes.
            await self._send_body(wire, body, self._head if is_at_hand else await self._send(wire, self._head))
        finally:
            if isinstance(body, AsyncGenerator):
                await body.aclose()  # what is left to the garbage collector cannot be closed under trio

    async def _send_body(self, wire: Wire, body: AsyncIterator[bytes], waiting: bytes) -> None:
        left = self._length
        async for part in body:
            if not part:
                continue
            left -= len(part)
            if left < 0 and not self._is_chunked:
                raise self._wrong("the body is longer than Content-Length")
            if self._is_chunked:
                waiting += b"%x\r\n" % len(part)
            if len(part) < _SEND_BYTES:
                waiting += part
            else:
                await self._send(wire, waiting)
                waiting = await self._send(wire, part)
            if self._is_chunked:
                waiting += b"\r\n"
            waiting = await self._send(wire, waiting)
        if left > 0 and not self._is_chunked:
            raise self._wrong("the body is shorter than Content-Length")
        await self._send(wire, waiting + b"0\r\n\r\n" if self._is_chunked else waiting)

    async def _send(self, wire: Wire, data: bytes) -> bytes:
        """Send in pieces that each have their own time; gives what is left to send: nothing."""
        for place in range(0, len(data), _SEND_BYTES):
            try:
                with trio.fail_after(self.seconds("write")):
                    await wire.send(data[place : place + _SEND_BYTES])
            except trio.TooSlowError:
                raise httpx.WriteTimeout("nothing sent within the time allowed", request=self.request) from None
            except BROKEN as problem:
                raise _Unwanted from problem
        return b""

    def _frame(self, names: list[bytes], headers: dict[bytes, bytes]) -> tuple[bool, int]:
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if names.count(b"content-length") > 1:
            raise self._wrong("there are two Content-Lengths")
        if coding is not None:
            if length is not None or coding.lower() != b"chunked" or names.count(b"transfer-encoding") > 1:
                raise self._wrong("a body is either chunked or has one Content-Length")
            return True, 0
        if length is not None and not (length.isdigit() and len(length) < 20):
            raise self._wrong("Content-Length is no number")
        return False, int(length or b"0")

    def _make_head(self, names: list[bytes]) -> bytes:
        method = self.request.method.encode("latin-1", "replace")
        target = self.request.extensions.get("target", self.request.url.raw_path)
        if not (_TOKEN.fullmatch(method) and _TARGET.fullmatch(target)):
            raise self._wrong("the method or the target has characters that are not allowed in it")
        if names.count(b"host") != 1:
            raise self._wrong("there must be one Host header")
        lines = [method + b" " + target + b" HTTP/1.1"]
        for name, value in self.request.headers.raw:
            if not _TOKEN.fullmatch(name) or _NOT_IN_VALUE.search(value):
                raise self._wrong("a header has characters that are not allowed in it")
            lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _wrong(self, what: str) -> httpx.LocalProtocolError:
        return httpx.LocalProtocolError(what, request=self.request)


def _port(url: httpx.URL) -> int:
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80
