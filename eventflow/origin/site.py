"""What is served where: the files with their addresses and checksums, and how often each was asked for.

The server holds one, and so does the process that started it: the list of files is known without asking the server.
"""

import socket
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from eventflow.origin.content import checksum, file_name
from eventflow.origin.settings import OriginSettings, Plan, decide, file_size, is_refused

_CHECKSUMS_MAX = 100_000  # about 20 MiB; a longer list is computed anew each time that it is asked for


class Entry(msgspec.Struct, frozen=True):
    """A file that the origin serves: where, under which name, its SHA-256 in hex and its size in bytes."""

    url: str
    name: str
    sha256: str
    size: int

    def tsv(self) -> bytes:
        """A line for `eventflow run --input`: URL, name, SHA-256."""
        return f"{self.url}\t{self.name}\t{self.sha256}\n".encode()

    def jsonl(self) -> bytes:
        """A line of JSON with all fields."""
        return msgspec.json.encode(self) + b"\n"


class Site:
    """The settings, the addresses, and the tries of each file so far.

    Args:
        settings: what is served.
        host: the name or address in the files' URLs.
        port: where the server listens.
        refusing_port: where nothing listens, for the files that refuse.
    """

    def __init__(
        self, settings: OriginSettings, host: str = "127.0.0.1", port: int = 0, refusing_port: int = 0
    ) -> None:
        self.settings = settings
        self.host, self.port, self.refusing_port = host, port, refusing_port
        self.tries: Counter[int] = Counter()
        self.refusing: socket.socket | None = None
        self._checksum = lru_cache(maxsize=_CHECKSUMS_MAX)(lambda number: checksum(settings, number))

    def base_url(self, port: int) -> str:
        """The beginning of the URLs at a port; an IPv6 address stands in brackets (RFC 3986 §3.2.2)."""
        return f"http://[{self.host}]:{port}" if ":" in self.host else f"http://{self.host}:{port}"

    def url(self, number: int) -> str:
        """Where file `number` is."""
        port = self.refusing_port if is_refused(self.settings, number) else self.port
        return f"{self.base_url(port)}/files/{file_name(number)}"

    def entries(self) -> Iterator[Entry]:
        """Every file, in order. The first time it takes the time to hash them all."""
        for number in range(self.settings.files):
            size = file_size(self.settings, number)
            yield Entry(self.url(number), file_name(number), self._checksum(number), size)

    def plan(self, number: int) -> Plan:
        """What happens to the next try of a file."""
        attempt = self.tries[number]
        self.tries[number] += 1
        return decide(self.settings, number, attempt)
