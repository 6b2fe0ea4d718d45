"""Wires and exchanges: what breaks is said in trio's words, and no answer at all is told from a broken one."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from eventflow.errors import BadResponse, ConnectionLost, RequestError, ShortBody
from eventflow.http.dialing import Dialled, Origin
from eventflow.http.exchange import DIRECT_BYTES_MIN, Unanswered, exchange
from eventflow.http.message import Head
from eventflow.http.pool import Connection
from eventflow.http.wire import PlainWire, Wire

Pair = tuple[PlainWire, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A wire over TCP, and its other side."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    wire = PlainWire(ours)
    with theirs:
        yield wire, theirs
    ours.close()


def reset(other: socket.socket) -> None:
    """Close with a reset."""
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()


async def receive(wire: Wire) -> None:
    """A read that waits."""
    await wire.receive(10)


async def receive_into(wire: Wire) -> None:
    """A read that looks first."""
    await wire.receive_into(memoryview(bytearray(10)))


async def send(wire: Wire) -> None:
    """More than fits."""
    await wire.send(b"x" * (32 << 20))


CALLS = [receive, receive_into, send]


@pytest.mark.parametrize("call", CALLS)
def test_a_wire_that_is_closed_says_so(call: Callable[[Wire], Any], pair: Pair) -> None:
    """To whoever waits while another task closes it, and to whoever comes later, as often as he comes."""

    async def main() -> None:
        wire, _ = pair

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await call(wire)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            wire.close()
            wire.close()
        for _ in range(2):
            await wait()
        assert not wire.is_quiet()

    trio.run(main)


@pytest.mark.parametrize("call", CALLS)
def test_a_wire_that_broke_says_so(call: Callable[[Wire], Any], pair: Pair) -> None:
    """Never as an OSError, which the disk could have raised as well."""

    async def main() -> None:
        wire, other = pair
        reset(other)
        await trio.sleep(0.01)
        with pytest.raises(trio.BrokenResourceError):
            await call(wire)
        assert not wire.is_quiet()
        wire.close()

    trio.run(main)


def test_a_wire_sends_all_of_it(pair: Pair) -> None:
    """Also what does not fit into the socket at once."""
    data = bytes(range(256)) * 40_000

    async def main() -> bytes:
        wire, other = pair
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.send, data)
            return await trio.to_thread.run_sync(_receive, other, len(data))

    assert trio.run(main) == data


def _receive(other: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += other.recv(1 << 20)
    return received


def test_a_wire_is_quiet_while_nothing_was_said(pair: Pair) -> None:
    """Only then can it be used again."""
    wire, other = pair
    assert wire.is_quiet()
    other.sendall(b"x")
    trio.run(trio.sleep, 0.01)
    assert not wire.is_quiet()


class Taken:
    """A body that is taken down, with what was told of it."""

    def __init__(self) -> None:
        self.body = b""
        self.told: list[str] = []

    def on_head(self, head: Head) -> None:
        self.told.append(f"head {head.status}")

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_sent(self) -> None:
        self.told.append("sent")

    def on_answering(self) -> None:
        self.told.append("answering")

    def on_bytes(self) -> None:
        """Not of interest here."""

    async def drain(self) -> None:
        """There is room."""

    async def receive_rest(self, wire: Wire, size: int) -> None:
        self.told.append("rest")
        while size:
            data = await wire.receive(size)
            if not data:
                raise ShortBody("", "")
            self.body, size = self.body + data, size - len(data)


Result = tuple[bool, Taken]


def carry_out(pair: Pair, *answer: bytes, last: Callable[[socket.socket], None] | None = None) -> Result:
    """One exchange; the server sends the pieces apart from each other, and then does something."""
    wire, other = pair
    taken = Taken()
    connection = Connection(Origin("http", "h", 80), Dialled(wire, "", 0, 0.0, 0.0, 0.0, None), "0")

    def serve() -> None:
        other.recv(100)
        for piece in answer:
            other.sendall(piece)
            threading.Event().wait(0.01)
        if last is not None:
            last(other)

    async def main() -> bool:
        with trio.fail_after(5):
            return await exchange(connection, b"GET / HTTP/1.1\r\n\r\n", taken, "http://h")

    server = threading.Thread(target=serve)
    server.start()
    try:
        return trio.run(main), taken
    finally:
        server.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def _close(other: socket.socket) -> None:
    other.close()


@pytest.mark.parametrize(
    ("answer", "last", "error"),
    [
        ((), _close, Unanswered),
        ((), reset, Unanswered),
        ((b"H",), _close, ConnectionLost),
        ((b"H",), reset, ConnectionLost),
        ((OK % 5 + b"x",), _close, ShortBody),
        ((OK % 5 + b"x",), reset, ConnectionLost),
        ((b"no HTTP\r\n\r\n",), _close, BadResponse),
    ],
)
def test_which_error_says_how_far_it_came(
    answer: tuple[bytes, ...], last: Callable[[socket.socket], None], error: type[RequestError], pair: Pair
) -> None:
    """Unanswered only if not one byte came: then, and only then, a kept connection is known to have been dead."""
    with pytest.raises(RequestError) as raised:
        carry_out(pair, *answer, last=last)
    assert type(raised.value) is error


def test_every_state_of_an_exchange_is_told_once(pair: Pair) -> None:
    """In its order; and the connection may be used again."""
    keeps, taken = carry_out(pair, b"HTTP/1.1 ", OK[9:] % 4 + b"ab", b"cd")
    assert (keeps, taken.body, taken.told) == (True, b"abcd", ["sent", "answering", "head 200"])


def test_a_large_body_is_read_without_the_parser(pair: Pair) -> None:
    """What is left of it, once its head is there; and nothing of it is lost on the way."""
    body = bytes(range(256)) * (DIRECT_BYTES_MIN // 128)
    keeps, taken = carry_out(pair, OK % len(body) + body[:1000], body[1000:])
    assert (keeps, taken.body == body, taken.told) == (True, True, ["sent", "head 200", "rest"])


@pytest.mark.parametrize(
    "answer", [OK % 1 + b"xy", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]
)
def test_a_connection_with_more_to_say_or_nothing_is_not_used_again(answer: bytes, pair: Pair) -> None:
    """What stands behind a response answers no request."""
    assert carry_out(pair, answer)[0] is False
