"""One HTTP exchange over one connection: a request out, a response in.

Invariants:
    a connection is kept only after a response that ended where HTTP says, with nothing behind it;
    `Unanswered` is raised only if not one byte of a response came, so a GET may be sent again over another connection.
"""

from typing import Protocol

import trio

from eventflow.errors import ConnectionLost
from eventflow.http.message import Framing, Receiver
from eventflow.http.pool import Connection
from eventflow.http.wire import Wire

READ_BYTES = 64 << 10
DIRECT_BYTES_MIN = 256 << 10


class Unanswered(ConnectionLost):
    """The connection ended before the first byte of a response."""


class Body(Receiver, Protocol):
    """Who gets a response, told of every state that it goes through."""

    def on_sent(self) -> None:
        """The request is on its way."""
        ...

    def on_answering(self) -> None:
        """The response has begun, its headers have not ended with the first read."""
        ...

    def on_bytes(self) -> None:
        """Something arrived: the server is alive."""
        ...

    async def drain(self) -> None:
        """Called after each read of a body: wait here until there is room for more."""
        ...

    async def receive_rest(self, wire: Wire, size: int) -> None:
        """Read the last `size` bytes of the body from the wire, without a copy in between.

        Raises:
            ShortBody: they did not come.
        """
        ...


async def exchange(connection: Connection, request: bytes, body: Body, url: str) -> bool:
    """Carry out one exchange; gives whether the connection may be used again. Errors name the redacted `url`.

    There are no timeouts in here: close the connection, or cancel.

    Raises:
        Unanswered, ConnectionLost, ShortBody, BadResponse, HeadTooLarge: it failed. Close the connection.
        Exception: what `body` raised.
    """
    reader, wire = connection.reader, connection.wire
    reader.begin(body, url)
    connection.requests += 1
    received = False
    try:
        await wire.send(request)
        body.on_sent()
        while True:
            data = await wire.receive(READ_BYTES)
            if not data:
                if not received:
                    raise Unanswered(url, "the server closed the connection without an answer")
                reader.end()
                break
            is_first, received = not received, True
            body.on_bytes()
            reader.feed(data)
            if reader.is_complete:
                break
            if reader.head is None:
                if is_first:
                    body.on_answering()
            elif reader.framing is Framing.LENGTH and (reader.head.length or 0) - reader.received >= DIRECT_BYTES_MIN:
                await body.receive_rest(wire, reader.take_over())
                break
            else:
                await body.drain()
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        kind = ConnectionLost if received else Unanswered
        raise kind(url, f"the connection broke ({str(problem) or 'closed'})"[:200]) from None
    return reader.keeps_alive and not reader.has_surplus
