"""Starting the origin in a process of its own, on 127.0.0.1 and a free port."""

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from eventflow.errors import StoreError
from eventflow.origin.settings import OriginSettings
from eventflow.origin.site import Entry, Site

_END_SECONDS_MAX = 5.0
_RESET_SECONDS_MAX = 10.0


class OriginStartFailed(StoreError):
    """The origin's process ended before it listened."""

    def __str__(self) -> str:
        return "the embedded origin did not start: see its own message above, or try `eventflow origin`"


class Origin:
    """A running origin.

    Attributes:
        settings: what it serves.
        pid: its process.
        port: where it listens on 127.0.0.1.
        url: its address, without a slash at the end.
        manifest_url: where it serves its list of files.
    """

    def __init__(self, settings: OriginSettings, pid: int, port: int, refusing_port: int) -> None:
        self.settings, self.pid, self.port = settings, pid, port
        self._site = Site(settings, port=port, refusing_port=refusing_port)
        self.url = self._site.base_url(port)
        self.manifest_url = f"{self.url}/manifest.tsv"

    def entries(self) -> Iterator[Entry]:
        """Every file, without asking the server."""
        return self._site.entries()

    def reset(self) -> None:
        """Forget how often each file was asked for, so that the next client is treated as the first.

        Raises:
            OSError: the origin is gone.
        """
        # Not urllib: it would ask the proxy of the environment for an address of this machine.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_RESET_SECONDS_MAX)
        with contextlib.closing(connection):
            connection.request("POST", "/-/reset")
            connection.getresponse().read()


@contextmanager
def start_origin(settings: OriginSettings) -> Iterator[Origin]:
    """An origin that serves `settings` while the context lasts, and never longer than this process lives.

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
        try:
            ports = process.stdout.readline().split()
            if len(ports) != 2:
                raise OriginStartFailed
            yield Origin(settings, process.pid, int(ports[0]), int(ports[1]))
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Close its standard input, at which it ends by itself; kill it if it does not."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
