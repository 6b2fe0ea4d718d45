"""The bytes of one connection: plain or TLS, non-blocking, under trio.

The plain one is a socket and two calls of trio's lowest level, since that is what thousands of small files a second
go through; TLS is trio's own stream.

Invariants:
    `close` may be called by any task at any time; whoever reads or writes then gets `trio.ClosedResourceError`.
"""

import errno
import os
import socket
import ssl
from typing import Protocol

import trio
from trio import lowlevel


class Wire(Protocol):
    """A connection's bytes. `trio.BrokenResourceError` and `ClosedResourceError` say that it broke; OSError never."""

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        ...

    async def receive(self, size: int) -> bytes:
        """Some bytes, at most `size`; none when the other side has ended."""
        ...

    async def receive_into(self, buffer: memoryview) -> int:
        """The same into a buffer, and how many they were."""
        ...

    def is_quiet(self) -> bool:
        """Whether a kept connection can be used again: still open, with nothing to read that nobody asked for."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


class Readiness(Protocol):
    """Who waits for a socket: trio (`trio.lowlevel` itself), or somebody who waits for many at once."""

    async def wait_readable(self, waited: socket.socket, /) -> None:
        """Until there is something to read."""
        ...

    async def wait_writable(self, waited: socket.socket, /) -> None:
        """Until there is room to write."""
        ...

    def notify_closing(self, closing: socket.socket, /) -> None:
        """The socket is about to be closed: whoever waits for it gets `trio.ClosedResourceError`."""
        ...


class PlainWire:
    """A TCP socket, non-blocking.

    Args:
        connected: the socket.
        readiness: who waits for it.
    """

    __slots__ = ("_readiness", "_socket")

    def __init__(self, connected: socket.socket, readiness: Readiness | None = None) -> None:
        self._socket = connected
        self._readiness: Readiness = readiness or lowlevel

    async def send(self, data: bytes) -> None:
        """A request is small, so the first call nearly always takes all of it, and there is nothing to wait for."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            raise _closed(problem) from None
        while sent < len(data):
            await self._readiness.wait_writable(self._socket)
            try:
                sent += self._socket.send(data[sent:])
            except BlockingIOError:
                continue
            except OSError as problem:
                raise _closed(problem) from None

    async def receive(self, size: int) -> bytes:
        """Waits first: right after a request there is nothing yet."""
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("closed")  # trio cannot wait for what has no number
        while True:
            await self._readiness.wait_readable(self._socket)
            try:
                return self._socket.recv(size)
            except BlockingIOError:
                continue
            except OSError as problem:
                raise _closed(problem) from None

    async def receive_into(self, buffer: memoryview) -> int:
        """Reads first: in the middle of a large body there is something already."""
        while True:
            try:
                return self._socket.recv_into(buffer)
            except BlockingIOError:
                await self._readiness.wait_readable(self._socket)
            except OSError as problem:
                raise _closed(problem) from None

    async def splice_into(self, pipe: int, size: int) -> int | None:
        """Move at most `size` bytes into a pipe, without a way through this process (Linux).

        Gives how many; 0 when the other side has ended; None when the pipe has no room.
        """
        is_readable = False
        while True:
            try:
                return os.splice(self._socket.fileno(), pipe, size, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                if is_readable:
                    return None
                await self._readiness.wait_readable(self._socket)
                is_readable = True
            except OSError as problem:
                raise _closed(problem) from None

    def is_quiet(self) -> bool:
        """Look without waiting."""
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Whoever waits for the socket is woken."""
        if self._socket.fileno() >= 0:
            self._readiness.notify_closing(self._socket)
            self._socket.close()


class TlsWire:
    """A TLS connection over a trio stream."""

    __slots__ = ("_socket", "stream")

    def __init__(self, stream: "trio.SSLStream[trio.SocketStream]") -> None:
        self.stream = stream
        self._socket = stream.transport_stream.socket

    async def send(self, data: bytes) -> None:
        """See `Wire`."""
        await self.stream.send_all(data)

    async def receive(self, size: int) -> bytes:
        """See `Wire`. An end without TLS's own goodbye is a connection that broke (RFC 9112 §9.8)."""
        return bytes(await self.stream.receive_some(size))

    async def receive_into(self, buffer: memoryview) -> int:
        """See `Wire`."""
        data = await self.receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def is_quiet(self) -> bool:
        """Look in the three places where bytes may wait: decrypted, received and still encrypted, in the socket.

        What waits may be a session ticket, which nobody can tell from a second response without decrypting it. Servers
        send tickets before their first response, so that they are read with it, and the others lose a connection.
        """
        try:
            # trio hides the second place, and without it what stands behind a response would answer the next request.
            received = self.stream._incoming.pending  # noqa: SLF001
            return not (self.stream.pending() or received or self._socket.is_readable())
        except OSError:
            return False

    def close(self) -> None:
        """Without TLS's goodbye, which would have to wait; HTTP's lengths do not need it."""
        self._socket.close()


def tls_session(wire: Wire) -> ssl.SSLSession | None:
    """What the next connection to the same origin may go on with, to save a round trip."""
    return wire.stream.session if isinstance(wire, TlsWire) else None


def _closed(problem: OSError) -> Exception:
    """What a socket's error means: another task closed it, or the connection broke."""
    if problem.errno == errno.EBADF:
        return trio.ClosedResourceError("closed")
    return trio.BrokenResourceError((problem.strerror or "connection broken").lower())
