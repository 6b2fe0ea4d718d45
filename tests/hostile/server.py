"""Servers that are wrong over several requests: each case has an origin of its own, and keeps its connections open.

Where `tests/hostile_server.py` says what one response must become, here it matters what was asked before and what is
asked next: retries, ranges, redirects, kept connections. Raw sockets, and each request is noted as it arrived.

Invariants:
    a connection stays open behind a response unless the case closes it: whoever closes it otherwise is the client;
    a request for a path that a case does not know is answered with that path, so that a body shows what it answers.
"""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

BODY = bytes(range(256)) * 4


@dataclass(frozen=True)
class Stored:
    """The file must be there, with these bytes."""

    body: bytes = BODY


@dataclass(frozen=True)
class Fails:
    """The request must fail with this error."""

    error: str


@dataclass
class Visit:
    """One request, as a case sees it.

    Attributes:
        connection: raw, or TLS.
        head: the request as it was sent.
        count: how many requests for this path came before.
        ports: of the other origins, by name.
    """

    connection: socket.socket
    head: bytes
    count: int
    ports: dict[str, int]


class Close(Exception):
    """The server closes the connection, in order."""


class Goodbye(Exception):
    """The server ends TLS and closes the connection."""


class Reset(Exception):
    """The server resets the connection."""


Step = bytes | Callable[[Visit], object] | type[Exception]
Script = tuple[Step, ...]


@dataclass(frozen=True)
class Case:
    """What a server does, and what must happen.

    Args:
        rule: why, and where it is written.
        must: what must become of the request for `path`.
        tries: what is done on the first, second, … request for the path; the last one is done for all further ones.
            In a head, `{name}` is the port of another case's origin.
        attempts: how many requests for the path must arrive, None where that is left to chance.
        path: what is asked for.
        ranges: the Range that each of these must ask for, None where that is not looked at.
        waits_s: how many seconds must pass between the first two of them, at least.
        greeting: sent as soon as the first connection is open.
        more: further paths of this origin, each with what is done.
        login: credentials in the URL.
    """

    rule: str
    must: Stored | Fails
    tries: tuple[Script, ...]
    attempts: int | None = 1
    path: str = "/it"
    ranges: tuple[str | None, ...] | None = None
    waits_s: float = 0.0
    greeting: bytes = b""
    more: dict[str, Script] = field(default_factory=dict)
    login: str = ""


@dataclass(frozen=True)
class Asked:
    """A request that arrived: on which of the origin's connections, and as which one there, both from 0."""

    path: str
    head: bytes
    connection: int
    turn: int
    at_s: float

    def header(self, name: str) -> str | None:
        """A header's value."""
        found = re.search(rf"(?im)^{re.escape(name)}: *(.*?)\r$", self.head.decode("latin-1"))
        return found[1] if found else None


class Origin:
    """One case's server.

    Args:
        case: what it does.
        ports: of all origins, by name.
        context: for TLS.
    """

    def __init__(self, case: Case, ports: dict[str, int], context: ssl.SSLContext | None = None) -> None:
        self.case, self._ports, self._context = case, ports, context
        self.asked: list[Asked] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve while it is entered."""
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield
        finally:
            self._listener.close()

    def asked_for(self, path: str) -> list[Asked]:
        """The requests for a path."""
        return [asked for asked in self.asked if asked.path == path]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()
                self.connections += 1

    def _serve(self, plain: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), plain:
            plain.settimeout(20)
            connection = self._context.wrap_socket(plain, server_side=True) if self._context is not None else plain
            with connection:
                try:
                    connection.sendall(b"" if number else self.case.greeting)
                    self._converse(connection, number)
                except Reset:
                    time.sleep(0.05)  # what was sent before it must have arrived
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                except Goodbye:
                    assert isinstance(connection, ssl.SSLSocket)
                    connection.unwrap()
                except Close:
                    _end(connection)

    def _converse(self, connection: socket.socket, number: int) -> None:
        turn, waiting = 0, b""
        while True:
            while b"\r\n\r\n" not in waiting:
                piece = connection.recv(65536)
                if not piece:
                    return
                waiting += piece
            head, _, waiting = waiting.partition(b"\r\n\r\n")
            self._answer(connection, head + b"\r\n", number, turn)
            turn += 1

    def _answer(self, connection: socket.socket, head: bytes, number: int, turn: int) -> None:
        path = head.split(b" ")[1].decode("latin-1")
        with self._lock:
            count = len(self.asked_for(path))
            self.asked.append(Asked(path, head, number, turn, time.monotonic()))
        visit = Visit(connection, head, count, self._ports)
        if path == self.case.path:
            script = self.case.tries[min(count, len(self.case.tries) - 1)]
        else:
            script = self.case.more.get(path, (answer(path.encode()),))
        for step in script:
            self._do(step, visit)

    def _do(self, step: Step, visit: Visit) -> None:
        if isinstance(step, bytes):
            head, end, body = step.partition(b"\r\n\r\n")
            head = re.sub(rb"\{([a-z-]+)\}", lambda found: self._port(found[1]), head) if end else head
            visit.connection.sendall(head + end + body)
        elif isinstance(step, type):
            raise step
        else:
            step(visit)

    def _port(self, name: bytes) -> bytes:
        return b"%d" % self._ports[name.decode()]


def _end(connection: socket.socket) -> None:
    """Close in order: a socket that closes with something unread would reset what was sent."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(65536):
            pass


def answer(body: bytes = BODY, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """A response, well-formed but for what the headers say. `length` is what it says of itself, if not the truth."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def raw(*lines: str, body: bytes = b"") -> bytes:
    """A response of which only the line ends are given."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(location: str, status: str = "302 Found", *headers: str) -> bytes:
    """To another place."""
    return answer(b"", f"Location: {location}", *headers, status=status)


def at_first(ending: type[Exception]) -> Callable[[Visit], None]:
    """End the connection if the path was not asked for before."""

    def act(visit: Visit) -> None:
        if visit.count == 0:
            raise ending

    return act


def in_one_packet(*pieces: bytes) -> Callable[[Visit], None]:
    """Over TLS each piece is a record of its own, and they all arrive together."""

    def act(visit: Visit) -> None:
        visit.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        for piece in pieces:
            visit.connection.sendall(piece)
        visit.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    return act


def on(act: Callable[[socket.socket], None]) -> Callable[[Visit], None]:
    """What `tests/hostile_server.py` can do with a connection."""
    return lambda visit: act(visit.connection)


@contextmanager
def origins(cases: dict[str, Case], contexts: dict[str, ssl.SSLContext]) -> Iterator[dict[str, Origin]]:
    """All of them, while it is entered. Those that have a context speak TLS."""
    ports: dict[str, int] = {}
    made = {name: Origin(case, ports, contexts.get(name)) for name, case in cases.items()}
    ports.update({name: origin.port for name, origin in made.items()})
    with ExitStack() as stack:
        for origin in made.values():
            stack.enter_context(origin.serving())
        yield made
