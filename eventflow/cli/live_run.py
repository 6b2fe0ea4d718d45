"""`run --live`: the view of `eventflow top` in the terminal of the run itself, drawn by a process of its own.

It is a process and no thread, since drawing takes the interpreter some ten milliseconds at a time, and reading the log
as much as recording it: a director's loop would wait for that each time. It is no child of the run either, but an
orphan, since the memory and CPU time of a run's children are counted as the run's own.

They are joined by a pair of sockets. The view ends when the run's end of it does, so also when the run is killed; when
the view's end does (`q`, Ctrl-C, or a fault of it), the run goes on with the usual line of progress.

Invariants:
    whatever happens to the view, the run goes on;
    when the `with` block is left, the view has ended and the terminal is as it was.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventflow.cli.progress_view import progress_bar
from eventflow.cli.top_screen import is_foreground
from eventflow.log.runs import RunFolder
from eventflow.progress import Tally

GOOD_BYE = b"bye\n"
_END_SECONDS = 2.0
_RESTORE = b"\x1b[?2026l\x1b[?25h\x1b[?1049l"
_ORPHAN = '"$@" &'  # the shell ends at once, and leaves its job in the foreground of the terminal


@contextmanager
def watch_live(folder: RunFolder, tally: Tally, total: int | None) -> Iterator[None]:
    """While it is entered, show the run on the whole screen.

    Where there is no terminal, or in the background of one, it is the line of progress.
    """
    view = _begin(folder, tally, total)
    if view is None:
        with progress_bar(folder.run, tally, total):
            yield
        return
    try:
        yield
    finally:
        view.close()


def _begin(folder: RunFolder, tally: Tally, total: int | None) -> "_View | None":
    if not (sys.stderr.isatty() and is_foreground(sys.stderr.fileno())):
        return None
    try:
        return _View(folder, tally, total)
    except OSError:  # no descriptor is left: the run has other worries
        return None


class _View:
    """The process that draws, and a thread that waits for its end."""

    def __init__(self, folder: RunFolder, tally: Tally, total: int | None) -> None:
        self._run, self._tally, self._total = folder.run, tally, total
        self._terminal = sys.stderr.fileno()
        self._modes: list[Any] | None = None
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(self._terminal)
        self._closing = threading.Event()
        self._pid: int | None = None
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._start(folder, theirs.fileno())
        self._thread = threading.Thread(target=self._mind, name="eventflow-live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it, and return when the terminal is as it was."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive() and self._pid is not None:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            self._thread.join(_END_SECONDS)
        self._ours.close()

    def _start(self, folder: RunFolder, end: int) -> None:
        command = [
            sys.executable,
            "-P",
            "-m",
            "eventflow",
            "top",
            folder.run,
            "--store",
            str(folder.path.parent.absolute()),
        ]
        with contextlib.suppress(OSError):
            subprocess.run(  # noqa: S603  (our own program)
                ["/bin/sh", "-c", _ORPHAN, "sh", *command, "--beside", str(end)],
                stdin=subprocess.DEVNULL,
                stdout=self._terminal,
                stderr=subprocess.DEVNULL,
                pass_fds=(end,),
                check=False,
            )

    def _mind(self) -> None:
        """Hear what it says: its number, and good-bye. If it ends before the run does, show a line of progress."""
        said = b""
        with contextlib.suppress(OSError):
            while piece := self._ours.recv(64):
                said += piece
                if self._pid is None and b"\n" in said:
                    self._pid = int(said.split(b"\n")[0])
        if not said.endswith(GOOD_BYE) and self._pid is not None:
            self._restore()
        if not self._closing.is_set():
            with progress_bar(self._run, self._tally, self._total):
                self._closing.wait()

    def _restore(self) -> None:
        """It was killed, and left the terminal as it had it."""
        with contextlib.suppress(OSError, termios.error):
            os.write(self._terminal, _RESTORE)
            if self._modes is not None and is_foreground(self._terminal):
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._modes)
