"""Processes to be killed, started in a millisecond: forked from a warm one that has imported everything.

A test names a function of a module under `tests`; it runs in a process of its own, and what it tells goes through a
pipe to the test, which outlives it. That pipe is the ledger of whoever kills the process: what was told before the
kill is in it, whatever became of the process, its threads and its memory.

Invariants:
    a process that is killed leaves the pipe at its end: `told` then has all that was told, in order, and no half line;
    the number of a process is not used again before `wait`, so a kill never meets another process.
"""

import array
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 60
_MESSAGE_BYTES_MAX = 1 << 16

Tell = Callable[[object], None]
"""Tells one thing, as JSON, to the test: when it returns, the test has it, whatever happens next."""


class Child:
    """A process that was forked, as the test sees it.

    Attributes:
        told: what it has told so far, in order.
    """

    def __init__(self, warm: "WarmProcess", pid: int, pipe: int) -> None:
        self.pid, self.told = pid, list[Any]()
        self._warm, self._pipe, self._rest = warm, pipe, b""
        self.is_over = False
        self._status: int | None = None

    def wait_told(self, count: int) -> list[Any]:
        """Return when it has told that many things, or has ended."""
        while len(self.told) < count and not self.is_over:
            self._read_or_fail()
        return self.told

    def listen(self, seconds: float) -> None:
        """Take what it tells in the next `seconds`, to the end if it ends."""
        until = time.monotonic() + seconds
        while not self.is_over and (left := until - time.monotonic()) > 0:
            self._read(left)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal."""
        if self._status is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end, take the rest of what it told, and return its status as `os.waitstatus_to_exitcode`."""
        while not self.is_over:
            self._read_or_fail()
        if self._status is None:
            os.close(self._pipe)
            self._status = self._warm.reap(self.pid)
        return self._status

    def killed(self) -> list[Any]:
        """Kill it, if it lives, and give all that it told."""
        self.kill()
        self.wait()
        return self.told

    def _read_or_fail(self) -> None:
        if not self._read(TIMEOUT_SECONDS):
            raise AssertionError(f"the process tells nothing any more, after {self.told[-3:]}")

    def _read(self, seconds: float) -> bool:
        """Take what is in the pipe. False if nothing came in time."""
        if not select.select([self._pipe], [], [], seconds)[0]:
            return False
        data = os.read(self._pipe, _MESSAGE_BYTES_MAX)
        self.is_over = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.told += map(json.loads, lines)
        return True


class WarmProcess:
    """Forks processes that have imported these modules. A context manager; at its end they are all killed."""

    def __init__(self, *modules: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # What killed processes reach cannot be counted, and measuring it would take half their time.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "tests.warm_process", str(theirs.fileno()), *modules]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, cwd=ROOT)
        self._alive: set[int] = set()

    def start(self, function: Callable[..., None], /, **arguments: object) -> Child:
        """Fork a process that calls `function(tell, **arguments)`. The arguments must be such that JSON takes them."""
        pipe, theirs = os.pipe()
        message = json.dumps([function.__module__, function.__qualname__, arguments]).encode()
        descriptors = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs]))]
        self._socket.sendmsg([message], descriptors)
        os.close(theirs)
        pid = int(self._socket.recv(_MESSAGE_BYTES_MAX))
        self._alive.add(pid)
        return Child(self, pid, pipe)

    def reap(self, pid: int) -> int:
        """Wait for the end of a process; its status."""
        self._socket.send(json.dumps(pid).encode())
        self._alive.discard(pid)
        return int(self._socket.recv(_MESSAGE_BYTES_MAX))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for pid in self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._socket.close()
        self._process.wait(TIMEOUT_SECONDS)


def _serve(control: socket.socket) -> None:
    """Fork when asked, reap when asked, until the test hangs up."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES_MAX, 1)
        if not message:
            return
        asked = json.loads(message)
        if isinstance(asked, int):
            _, status = os.waitpid(asked, 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                control.close()
                _work(descriptors[0], *asked)
            os.close(descriptors[0])
        control.send(str(answer).encode())


def _work(pipe: int, module: str, name: str, arguments: dict[str, Any]) -> None:
    """Be the process that was asked for."""

    def tell(what: object) -> None:
        os.write(pipe, json.dumps(what).encode() + b"\n")  # shorter than PIPE_BUF, so it is written whole or not

    status = 0
    try:
        getattr(importlib.import_module(module), name)(tell, **arguments)
    except BaseException:  # noqa: BLE001  (it is said, and the process ends)
        traceback.print_exc()
        status = 1
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for imported in sys.argv[2:]:
        importlib.import_module(imported)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _serve(listening)
