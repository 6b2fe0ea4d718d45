"""HTTP/1.1 for any user of httpx under trio: this package's connections behind httpx's interface of a transport.

The director does without it, since httpx costs more for a small file than the exchange itself does. What differs from
`exchange`: here the body is pulled by whoever reads it, and requests have methods, headers and bodies of their own.

Invariants:
    never more connections than `connections_max` in all and `per_origin_max` to one origin, idle ones included;
    whoever asks first gets a connection first, and taking and giving cost the same however many there are;
    a request is sent twice only if that is safe: on a kept connection that gave not one byte, idempotent, with its body
    at hand (RFC 9112 §9.3.1);
    a response that is closed, cancelled or failed before its end leaves no socket behind.
"""

import math
import ssl
from collections.abc import AsyncIterator
from itertools import count

import httpx
import trio

from eventflow.errors import ConnectionLost, RequestError, UsageError
from eventflow.http.dialing import Dialer
from eventflow.http.exchange import READ_BYTES, Unanswered
from eventflow.http.message import Head
from eventflow.http.outgoing import BROKEN, Outgoing
from eventflow.http.pool import IDLE_SECONDS_MAX, Connection, Pool
from eventflow.http.slots import Lease, Slots, SlotsClosed

CONNECTIONS_MAX = 256
PER_ORIGIN_MAX = 64


class Transport(httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient` under trio: HTTP/1.1 and 1.0, plain and over TLS.

    It does: every method but CONNECT; bodies by Content-Length or chunked, streamed both ways in constant memory;
    keep-alive; TLS with certificates and names checked, sessions resumed; a race over a host's addresses (RFC 8305);
    names kept for a minute; httpx's four timeouts, of which `connect` is for name, connection and TLS together.

    It does not: HTTP/2, proxies, CONNECT, protocol upgrades, other schemes, the request extension `sni_hostname`.
    Requests that show such a need go to `fallback`, or fail with `httpx.UnsupportedProtocol`; none is sent in another
    way than it asks for. A proxy or HTTP/2 for some hosts is mounted: `httpx.AsyncClient(transport=Transport(),
    mounts={"https://example.org": httpx.AsyncHTTPTransport(http2=True)})`. httpx itself looks at the proxies of the
    environment only if it is given no transport. The response extensions `network_stream` and `reason_phrase` and
    httpcore's `trace` are not there.

    >>> import httpx, trio
    >>> async def main() -> None:
    ...     async with httpx.AsyncClient(transport=Transport(per_origin_max=8)) as client:
    ...         try:
    ...             await client.get("http://127.0.0.1:1/")
    ...         except httpx.ConnectError as problem:
    ...             print(problem)
    >>> trio.run(main)
    connection refused

    Args:
        connections_max: connections at a time, in use and idle.
        per_origin_max: the same for one origin.
        idle_s: how long a connection is kept without use, in seconds.
        tls: whom to trust; None: the authorities that httpx trusts.
        fallback: another transport for what this one does not speak. It is closed with this one.
    """

    def __init__(
        self,
        *,
        connections_max: int = CONNECTIONS_MAX,
        per_origin_max: int = PER_ORIGIN_MAX,
        idle_s: float = IDLE_SECONDS_MAX,
        tls: ssl.SSLContext | None = None,
        fallback: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._fallback = fallback
        self._pool = Pool(kept_max=connections_max, idle_s=idle_s)
        self._dialer = Dialer(connect_s=math.inf, tls=tls)
        self._slots = Slots(self._pool, connections_max, per_origin_max)
        self._names = count()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry out one exchange up to the head of the response; its stream gives the body.

        Raises:
            httpx.TransportError: see httpx: which of its kinds says in which phase what happened.
            UsageError: not under trio.
        """
        if not trio.lowlevel.in_trio_task():
            raise UsageError(
                "eventflow.http.Transport works under trio only",
                "start the program with trio.run(), or give the client httpx.AsyncHTTPTransport() under asyncio",
            )
        if (need := _foreign_need(request)) is not None:
            if self._fallback is None:
                raise httpx.UnsupportedProtocol(f"{need}: give the transport a fallback", request=request)
            return await self._fallback.handle_async_request(request)
        outgoing = Outgoing(request)
        try:
            lease = await self._lease(outgoing)
            try:
                return await self._ask(lease, outgoing)
            except BaseException:
                lease.end(keep=False)
                raise
        except RequestError as problem:
            raise _as_httpx(problem, request) from problem
        except SlotsClosed:
            raise httpx.ConnectError("the transport is closed", request=request) from None

    async def aclose(self) -> None:
        """Close every connection, for good: who reads gets `httpx.ReadError`, who waits or comes later ConnectError."""
        self._slots.close()
        if self._fallback is not None:
            await self._fallback.aclose()

    async def _lease(self, outgoing: Outgoing) -> Lease:
        try:
            with trio.fail_after(outgoing.seconds("pool")):
                return await self._slots.take(outgoing.origin)
        except trio.TooSlowError:
            raise httpx.PoolTimeout("no free connection within the time allowed", request=outgoing.request) from None

    async def _ask(self, lease: Lease, outgoing: Outgoing) -> httpx.Response:
        kept = self._pool.take(outgoing.origin)
        if kept is not None:
            lease.hold(kept)
            try:
                return await self._exchange(lease, kept, outgoing)
            except Unanswered:
                lease.drop()
                if lease.has_ended or not outgoing.may_repeat:
                    raise
        return await self._exchange(lease, await self._dial(lease, outgoing), outgoing)

    async def _dial(self, lease: Lease, outgoing: Outgoing) -> Connection:
        origin = outgoing.origin
        self._slots.make_room()
        try:
            with trio.fail_after(outgoing.seconds("connect")) as lease.making:
                dialled = await self._dialer.dial(origin, outgoing.shown, self._pool.session(origin))
        except trio.TooSlowError:
            if lease.has_ended:
                raise SlotsClosed from None
            raise httpx.ConnectTimeout("no connection within the time allowed", request=outgoing.request) from None
        except RequestError as problem:
            raise httpx.ConnectError(problem.what, request=outgoing.request) from problem
        connection = Connection(origin, dialled, str(next(self._names)))
        lease.hold(connection)
        return connection

    async def _exchange(self, lease: Lease, connection: Connection, outgoing: Outgoing) -> httpx.Response:
        answer = _Answer(lease, connection, outgoing)
        connection.reader.begin(answer, outgoing.shown, head_only=outgoing.request.method == "HEAD")
        connection.requests += 1
        # A server that wants no more of the body may have said so before it closed (RFC 9110 §10.1.1).
        answer.keeps = await outgoing.send(connection.wire) and outgoing.keeps
        head = await answer.read_head()
        version = f"HTTP/{head.version}".encode()
        return httpx.Response(head.status, headers=head.raw, stream=answer, extensions={"http_version": version})


class _Answer(httpx.AsyncByteStream):
    """The response to one request, which is its body's stream at the same time."""

    def __init__(self, lease: Lease, connection: Connection, outgoing: Outgoing) -> None:
        self._lease, self._connection = lease, connection
        self._request, self._shown, self._read_s = outgoing.request, outgoing.shown, outgoing.seconds("read")
        self._pieces: list[bytes] = []
        self._is_answered = self._is_complete = self._is_cut = False
        self.keeps = False

    def on_head(self, head: Head) -> None:
        """The reader keeps it."""

    def on_body(self, piece: bytes) -> None:
        """Pieces wait here for whoever reads; there are never more than one read gives."""
        self._pieces.append(piece)

    async def read_head(self) -> Head:
        """Read until the head is there, and what came with it."""
        while (head := self._connection.reader.head) is None:
            await self._read()
        return head

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._is_cut:
                raise httpx.ReadError("the response was closed before its end", request=self._request)
            if self._is_complete:
                raise StopAsyncIteration
            try:
                await self._read()
            except BaseException as problem:
                await self.aclose()
                if isinstance(problem, RequestError):
                    raise _as_httpx(problem, self._request) from problem
                raise
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Leave the rest of the body, and with it the connection. Idempotent; never waits."""
        self._is_cut = self._is_cut or not self._is_complete or bool(self._pieces)
        self._pieces = []
        self._lease.end(keep=False)

    async def _read(self) -> None:
        reader = self._connection.reader
        try:
            with trio.fail_after(self._read_s):
                data = await self._connection.wire.receive(READ_BYTES)
        except trio.TooSlowError:
            raise httpx.ReadTimeout("nothing received within the time allowed", request=self._request) from None
        except BROKEN as problem:
            kind = ConnectionLost if self._is_answered else Unanswered
            raise kind(self._shown, f"the connection broke ({str(problem) or 'closed'})") from problem
        if data:
            self._is_answered = True
            reader.feed(data)
        elif self._is_answered:
            reader.end()
        else:
            raise Unanswered(self._shown, "the server closed the connection without an answer")
        if reader.is_complete:
            self._is_complete = True
            self._lease.end(keep=self.keeps and reader.keeps_alive and not reader.has_surplus)


def _foreign_need(request: httpx.Request) -> str | None:
    """What the request asks for that is not spoken here."""
    if request.url.scheme not in ("http", "https"):
        return f"the scheme {request.url.scheme[:20]!r} is not spoken here"
    if not request.url.host:
        return "the URL has no host"
    if request.method == "CONNECT" or "upgrade" in request.headers:
        return "tunnels and upgrades to other protocols are not spoken here"
    return "the extension sni_hostname is not known here" if "sni_hostname" in request.extensions else None


def _as_httpx(problem: RequestError, request: httpx.Request) -> httpx.TransportError:
    """httpx's word for a failure after the connection was made."""
    kind = httpx.ReadError if isinstance(problem.__cause__, BROKEN) else httpx.RemoteProtocolError
    return kind(problem.what, request=request)
