"""A command as a person has it: on a terminal of its own, which Ctrl-C and Ctrl-Z reach."""

import contextlib
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

DEADLINE_SECONDS = 60
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
_BECOME_ITS_TERMINALS_OWNER = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_FRAME = "\x1b[H"
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")


class OnTerminal:
    """`eventflow ARGUMENTS` on a terminal, or another command. Close it at the end.

    Args:
        arguments: after `eventflow`.
        folder: where it runs.
        size: columns and lines.
        program: the command instead of `eventflow`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        size: tuple[int, int] = (100, 30),
        program: Sequence[str] = (sys.executable, "-m", "eventflow"),
    ) -> None:
        try:
            self._leader, self._follower = pty.openpty()
        except OSError as missing:  # a container without /dev/pts
            pytest.skip(f"no terminal can be made here: {missing}")
        self.resize(*size)
        self._modes = termios.tcgetattr(self._follower)
        unset = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        command = [sys.executable, "-c", _BECOME_ITS_TERMINALS_OWNER, *program, *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=self._follower,
            stdout=self._follower,
            stderr=self._follower,
            cwd=folder,
            env=unset | {"TERM": "xterm"},
            start_new_session=True,
        )
        self.raw = ""
        self._seen = 0

    def resize(self, columns: int, lines: int) -> None:
        """Another size; who has the terminal is told."""
        ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._leader, keys.encode())

    def wait_for(self, wanted: str) -> None:
        """Return when this was written, escapes apart, after what the last wait was for."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (place := self._plain().find(wanted, self._seen)) < 0:
            assert self._read(deadline), f"{wanted!r} did not come: {self._plain()[-3000:]!r}"
        self._seen = place + len(wanted)

    def wait_for_end(self) -> int:
        """The exit status, when it has ended and all that it wrote was read."""
        status = self.process.wait(DEADLINE_SECONDS)
        while self._read(time.monotonic() + 0.1):
            pass
        return status

    def frame(self) -> list[str]:
        """The last whole frame that was shown, line by line."""
        whole = self.raw.rpartition("\x1b[?2026l")[0]
        return [_ESCAPE.sub("", line) for line in whole.rpartition(_FRAME)[2].split("\r\n")]

    @property
    def is_restored(self) -> bool:
        """Whether the terminal is as it was: its modes, the screen, the cursor."""
        modes: list[Any] = termios.tcgetattr(self._follower)
        is_left = self.raw.rfind(LEAVE) > self.raw.rfind(ENTER) or ENTER not in self.raw
        return modes == self._modes and is_left and self.raw.rfind("\x1b[?25h") >= self.raw.rfind("\x1b[?25l")

    def close(self) -> None:
        """End it and all that it started, if they have not ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._follower)
        os.close(self._leader)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        self.raw += os.read(self._leader, 65_536).decode(errors="replace")
        return True

    def _plain(self) -> str:
        return _ESCAPE.sub("", self.raw)
