"""Starting the origin in a process of its own, on 127.0.0.1 and a free port."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from eventflow.errors import StoreError
from eventflow.origin.content import checksum, file_name
from eventflow.origin.server import Site
from eventflow.origin.settings import OriginSettings


class OriginStartFailed(StoreError):
    """The origin's process ended before it listened."""

    def __str__(self) -> str:
        return "the embedded origin did not start: see its own message above, or try `eventflow origin`"


class Entry(msgspec.Struct, frozen=True):
    """A file that the origin serves: where, under which name, and its SHA-256."""

    url: str
    name: str
    sha256: str


class Origin:
    """A running origin."""

    def __init__(self, settings: OriginSettings, pid: int, port: int, refusing_port: int) -> None:
        self.settings, self.pid, self.port = settings, pid, port
        self.url = f"http://127.0.0.1:{port}"
        self.manifest_url = f"{self.url}/manifest.tsv"
        self._site = Site(settings)
        self._site.port, self._site.refusing_port = port, refusing_port

    def entries(self) -> Iterator[Entry]:
        """Every file, without asking the server."""
        for number in range(self.settings.files):
            yield Entry(self._site.url(number), file_name(number), checksum(self.settings, number))

    def reset(self) -> None:
        """Forget how often each file was asked for, so that the next client is treated as the first."""
        request = urllib.request.Request(f"{self.url}/-/reset", method="POST")  # noqa: S310  (a URL of our own)
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310


@contextmanager
def start_origin(settings: OriginSettings) -> Iterator[Origin]:
    """An origin that serves `settings` while the context lasts.

    Raises:
        OriginStartFailed: it did not start.
        UsageError: the settings cannot be served.
    """
    settings.check()
    command = [sys.executable, "-m", "eventflow.origin", msgspec.json.encode(settings).decode()]
    with subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            ports = process.stdout.readline().split()
            if len(ports) != 2:
                raise OriginStartFailed
            yield Origin(settings, process.pid, int(ports[0]), int(ports[1]))
        finally:
            process.stdin.close()
