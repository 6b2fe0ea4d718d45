"""An external program, run for one file: started without a shell, recorded, and never left behind.

Invariants:
    no shell ever sees an argument; the program gets no standard input and a process group of its own;
    its environment is a copy of ours, with the ids of its own span for whatever in it traces;
    when the program ends, and when it is stopped, all of its group ends: what it started and left behind, too;
    its standard error cannot fill a pipe and hang: it goes to a temporary file, of which the last line is kept for the
    message.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from typing import IO

from eventflow.errors import ProgramFailed, UsageError, name_of
from eventflow.propagation import Propagation
from eventflow.recorder import Span
from eventflow.vocabulary import ProcessExited, ProcessStarted

_TAIL_BYTES = 2_000
_LINE_MAX = 200


class Programs:
    """The external programs that run now. Safe for several threads.

    Raises:
        UsageError: OTEL_PROPAGATORS names something that is not known here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._stopped = False
        self._propagation = Propagation(os.environ)

    def run(self, argv: list[str], span: Span, url: str) -> None:
        """Run a program to its end, recorded as a child span of `span`.

        Raises:
            ProgramFailed: it could not be started, or its exit status is not 0. `url` is redacted.
        """
        own = span.child()
        clock = span.recorder.sources.monotonic_ns
        begun = clock()
        name = _name(argv)
        with tempfile.TemporaryFile() as errors:
            process = self._start(argv, errors, url, own)
            own.record(ProcessStarted(pid=process.pid, role="program", program=name))
            try:
                code = _wait_group(process)
            except BaseException:
                _kill_group(process.pid)
                process.wait()
                raise
            finally:
                self._forget(process.pid)
            own.record(ProcessExited(pid=process.pid, exit_code=code, seconds=(clock() - begun) / 1e9))
            if code != 0:
                raise ProgramFailed(url, _describe(name, code, errors))

    def stop(self) -> None:
        """Kill every running program and its group, and start no more."""
        with self._lock:
            self._stopped = True
            for pid in self._running:
                _kill_group(pid)

    def _start(self, argv: list[str], errors: IO[bytes], url: str, span: Span) -> "subprocess.Popen[bytes]":
        name = _name(argv)
        environment = self._propagation.environment(os.environ, span.stream.trace_id, span.span_id)
        with self._lock:
            if self._stopped:
                raise ProgramFailed(url, f"{name_of(name)} was not started: the run was asked to stop")
            try:
                process = subprocess.Popen(  # noqa: S603  (an argument list, never a shell)
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=environment,
                    start_new_session=True,
                )
            except OSError as problem:
                raise ProgramFailed(url, f"{name_of(name)} cannot be started ({problem.strerror})") from problem
            self._running.add(process.pid)
            return process

    def _forget(self, pid: int) -> None:
        with self._lock:
            self._running.discard(pid)


def _name(argv: list[str]) -> str:
    return os.path.basename(argv[0])  # noqa: PTH119  (argv[0] is a program's name, not always a path)


def check_program(argv: tuple[str, ...]) -> None:
    """Refuse a program that cannot be found, before any work is done.

    Raises:
        UsageError: it is not there or may not be run.
    """
    import shutil

    if not argv:
        raise UsageError("--exec is empty", "give a program and its arguments, for example --exec 'gzip -k {path}'")
    if shutil.which(argv[0]) is None:
        raise UsageError(f"the program {name_of(argv[0])} was not found", "install it or give its path with --exec")


def _wait_group(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the program, and end what it leaves behind: before its id, which is the group's, is given back."""
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill_group(process.pid)
    return process.wait()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _describe(name: str, code: int, errors: IO[bytes]) -> str:
    how = f"exit status {code}" if code > 0 else f"killed by {_signal_name(-code)}"
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    said = f" ({lines[-1][:_LINE_MAX]})" if lines else ""
    return f"{name} ended with {how}{said}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
