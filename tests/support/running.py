"""Real programs that tests run: ready when started, never left behind, with their log in every failure."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_SECONDS = 60
STOP_SECONDS = 20
_LOG_LINES = 40
_PORTS = range(20_000, 32_000)  # below those that Linux gives to connections: a restarted program finds its port free


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    choice = random.SystemRandom()
    for _ in range(1000):
        port = choice.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def answers(url: str) -> bool:
    """Whether it answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(met: Callable[[], bool], *, what: str, seconds: float = READY_SECONDS) -> None:
    """Return when it is met; a failure with `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(0.05)


class Program:
    """A program that can be started, stopped, killed and started again.

    Args:
        command: what to run.
        environment: set besides what this process has.
        log: its output is appended here.
        ready_url: answers 200 when the program is ready.
    """

    def __init__(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path, ready_url: str
    ) -> None:
        self.command, self.environment = [str(part) for part in command], {**os.environ, **environment}
        self.log, self.ready_url = log, ready_url
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and return when it is ready."""
        assert self.process is None, "it runs"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for(self._is_ready, what=f"{self.command[0]} is not ready")
        except BaseException as error:
            self.kill()
            error.add_note(self.tail())
            raise
        return self

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"{self.command[0]} ended with {self.process.returncode}"
        return answers(self.ready_url)

    def kill(self) -> None:
        """SIGKILL: it can do nothing more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as `docker compose stop`; and SIGKILL where that is not enough, as there."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """It is there and takes connections, but answers nothing, until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """What `pause` stopped."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "it does not run"
        self.process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"{self.log}:", *lines[-_LOG_LINES:]])

    def __enter__(self) -> Self:
        return self if self.process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.tail())
        self.kill()
