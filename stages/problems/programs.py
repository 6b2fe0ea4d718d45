"""Programs of a scenario: started in a session of their own, watched, and ended with all that they started.

Whatever a scenario starts carries a mark in its environment, which is inherited, so what was orphaned, or made a
session of its own, is found too.

Invariants:
    a program never waits for us: its output goes to files, its input is empty;
    after `end_marked`, no process with the mark is left (where there is no /proc: none of the program's group).
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stages.problems.proc import PROC, pids

MARK = "EVENTFLOW_PROBLEM"
_LOOK_SECONDS = 0.005
_SWEEPS = 100


class Ended(NamedTuple):
    """How a program ended.

    `status` is None where it did not, and was killed by us; `cpu_seconds` includes the children that it waited for.
    """

    status: int | None
    seconds: float
    cpu_seconds: float
    out: str
    err: str


class Running:
    """A program that was started."""

    def __init__(self, argv: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        number = len(list(folder.glob("*.out")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        self._begun = time.monotonic()
        self._ended: Ended | None = None
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(  # noqa: S603
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def said(self) -> str:
        """What it has written to standard output so far."""
        return self._out.read_text(errors="replace")

    def is_running(self) -> bool:
        """Whether it has not ended yet. Nobody is asked how it ended, so its process id stays its own."""
        if self._ended is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until the condition holds; False if the program ended, or the time passed, before it did."""
        deadline = time.monotonic() + limit_s
        while not condition():
            if not self.is_running() or time.monotonic() > deadline:
                return condition()
            time.sleep(_LOOK_SECONDS)
        return True

    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._begun

    def ended_after(self) -> float:
        """How many seconds after its start it ended, or was killed."""
        return self.end().seconds

    def signal(self, number: int) -> None:
        """Send a signal to the program alone."""
        os.kill(self.pid, number)

    def end(self, limit_s: float = 0.0) -> Ended:
        """How it ended. If it does not within `limit_s` seconds, it is killed, and its group with it."""
        if self._ended is None:
            in_time = self.wait_until(lambda: not self.is_running(), limit_s)
            seconds = self.seconds()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # before its id is given back
            _, status, usage = os.wait4(self.pid, 0)
            self._process.returncode = code = os.waitstatus_to_exitcode(status)
            out, err = (path.read_text(errors="replace") for path in (self._out, self._err))
            cpu = usage.ru_utime + usage.ru_stime
            self._ended = Ended(code if in_time else None, seconds, cpu, out, err)
        return self._ended


def end_marked(mark: str) -> int:
    """Kill every process that carries the mark, until none is found; how many there were."""
    killed = 0
    for _ in range(_SWEEPS):
        found = [pid for pid in pids() if _kill_marked(pid, mark)]
        if not found:
            return killed
        killed += len(found)
        time.sleep(_LOOK_SECONDS)
    return killed


def _kill_marked(pid: int, mark: str) -> bool:
    """Through a descriptor, which means this process and no later one with the same number, where there are any."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        kill = partial(os.kill, pid, signal.SIGKILL)
        with contextlib.suppress(OSError, AttributeError):  # Linux before 5.3, or forbidden
            descriptor = os.pidfd_open(pid)
            stack.callback(os.close, descriptor)
            kill = partial(signal.pidfd_send_signal, descriptor, signal.SIGKILL)
        if f"{MARK}={mark}".encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
            kill()
            return True
    return False
