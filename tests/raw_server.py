"""A server on raw sockets that does what a test says, connection by connection, and knows when the client is gone.

Where `tests/hostile/server.py` plays a table of cases, here a test converses: it reads a request with its body, and
answers with bytes. What a conversation raises fails the test that entered `serving`.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

_SECONDS_MAX = 10.0


class Asked(NamedTuple):
    """A request as it arrived: its first line, its headers as they were sent, its body without a transfer coding."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Peer:
    """One connection.

    Attributes:
        number: which of the server's it is, from 0.
        gone: set when the client has closed it.
        tls_reused: whether a TLS session was gone on with.
    """

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.connection, self.number = connection, number
        self.gone = threading.Event()
        self.tls_reused = isinstance(connection, ssl.SSLSocket) and bool(connection.session_reused)
        self._waiting = b""

    def ask(self) -> Asked | None:
        """Read a request; None when the client closes instead."""
        while b"\r\n\r\n" not in self._waiting:
            if not self._more():
                return None
        head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value) for name, _, value in (text.partition(": ") for text in lines)]
        asked = Asked(line, headers, b"")
        if asked.header("transfer-encoding") is not None:
            return Asked(line, headers, self._chunks())
        return Asked(line, headers, self._take(int(asked.header("content-length") or 0)))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.connection.sendall(data)

    def wait_gone(self) -> None:
        """Wait until the client has closed the connection, and whatever it sent before."""
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(65536):
                pass
        self.gone.set()

    def close(self) -> None:
        """Close in order, seen by the client before this returns the other way."""
        self.connection.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _more(self) -> bool:
        try:
            data = self.connection.recv(65536)
        except ConnectionError:
            data = b""
        self._waiting += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        while len(self._waiting) < size and self._more():
            pass
        taken, self._waiting = self._waiting[:size], self._waiting[size:]
        return taken

    def _chunks(self) -> bytes:
        body = b""
        while True:
            while b"\r\n" not in self._waiting and self._more():
                pass
            size, _, self._waiting = self._waiting.partition(b"\r\n")
            chunk = self._take(int(size or b"0", 16) + 2)
            if len(chunk) <= 2:
                return body
            assert chunk.endswith(b"\r\n")
            body += chunk[:-2]


Talk = Callable[[Peer], None]


@dataclass
class RawServer:
    """A server while it is served."""

    url: str
    port: int
    peers: list[Peer] = field(default_factory=list)
    problems: list[Exception] = field(default_factory=list)


def respond(body: bytes = b"", *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A response with a Content-Length."""
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def each(*answers: bytes) -> Talk:
    """A conversation: these answers on each connection, one for each request, then whatever the client does."""

    def talk(peer: Peer) -> None:
        for answer in answers:
            if peer.ask() is None:
                break
            peer.send(answer)
        peer.wait_gone()

    return talk


def always(answer: bytes = respond(b"hello")) -> Talk:
    """A conversation: the same answer to every request."""

    def talk(peer: Peer) -> None:
        while peer.ask() is not None:
            peer.send(answer)
        peer.gone.set()

    return talk


@contextmanager
def serving(*talks: Talk, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Serve while it is entered: the first connection is for the first talk, all further ones are for the last."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    server = RawServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}", port)
    threads: list[threading.Thread] = []

    def serve(plain: socket.socket, talk: Talk) -> None:
        try:
            plain.settimeout(_SECONDS_MAX)
            with plain if tls is None else tls.wrap_socket(plain, server_side=True) as connection:
                peer = Peer(connection, len(server.peers))
                server.peers.append(peer)
                talk(peer)
        except (ConnectionError, ssl.SSLError):
            plain.close()  # the client went in the middle of something
        except Exception as problem:  # noqa: BLE001 (a test's own fault, shown below)
            server.problems.append(problem)

    def accept() -> None:
        with contextlib.suppress(OSError):
            for number in range(1 << 30):
                connection, _ = listener.accept()
                talk = talks[min(number, len(talks) - 1)]
                threads.append(threading.Thread(target=serve, args=(connection, talk), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        listener.close()
        for thread in (acceptor, *threads):
            thread.join(_SECONDS_MAX)
    assert not server.problems, server.problems
