"""Talking to an origin over a raw socket: what exactly it says, and how it ends."""

import socket
from collections.abc import Callable
from typing import NamedTuple

GET = "GET /files/{:06}.bin HTTP/1.1\r\nHost: x\r\n{}\r\n"


def get(number: int, fields: str = "") -> bytes:
    """A request for a file."""
    return GET.format(number, fields).encode()


class Said(NamedTuple):
    """What came, and how the connection ended: closed, reset, or still open when enough had come."""

    data: bytes
    end: str

    @property
    def status(self) -> int:
        """The status of the first answer."""
        return int(self.data.split(b" ", 2)[1])

    @property
    def fields(self) -> dict[str, str]:
        """The header fields of the first answer, names in small letters."""
        lines = self.data.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def body(self) -> bytes:
        """What came after the head of the first answer."""
        return self.data.partition(b"\r\n\r\n")[2]


def has_body(length: int) -> Callable[[bytes], bool]:
    """Enough has come when the first answer's head and so many bytes are there."""
    return lambda data: b"\r\n\r\n" in data and len(data.partition(b"\r\n\r\n")[2]) >= length


def talk(
    port: int, request: bytes, *, enough: Callable[[bytes], bool] = lambda data: False, quiet_s: float = 5.0
) -> Said:
    """Send some bytes and take what comes, until `enough` has, the server ends it, or it is silent for a time."""
    with socket.create_connection(("127.0.0.1", port), timeout=quiet_s) as connection:
        connection.sendall(request)
        data = b""
        while not enough(data):
            try:
                piece = connection.recv(1 << 20)
            except TimeoutError:
                return Said(data, "silent")
            except ConnectionResetError:
                return Said(data, "reset")
            if not piece:
                return Said(data, "closed")
            data += piece
        return Said(data, "open")
