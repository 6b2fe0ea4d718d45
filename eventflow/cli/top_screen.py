"""A terminal as a full-screen program has it: the other screen, no cursor, keys one by one, and all of that undone.

The forces: whoever leaves, however, must find the terminal as it was; a run that draws its view by another process must
not be stopped by it; and Ctrl-Z, `fg` and a new size must work as people expect.

Invariants:
    after `leave`, and so after the `with` block, the terminal is as it was before, unless the process was killed by
    SIGKILL;
    the modes of a terminal that belongs to another job by then are left alone: that job has set its own.
"""

import contextlib
import io
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console, OverflowMethod
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"  # a terminal that knows it shows the frame as a whole
_END_OF_LINE = "\x1b[K"
_KEY_BYTES = 64
_HUNG_UP = 128 + signal.SIGHUP
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Left(Exception):
    """It is time to leave, with this exit status: a signal said so, or the terminal or the parent is gone."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


class Screen:
    """The screen of the terminal on standard output. A context manager; used in the main thread.

    Args:
        console: says what colours there are.
        parent: a descriptor that ends when the process does for which this is shown.
    """

    def __init__(self, console: Console, parent: int | None = None) -> None:
        self._console, self._parent = console, parent
        self._out = sys.stdout.fileno()
        self._keys = _open_keys()
        self._modes: list[Any] | None = None
        self._is_in = False
        self._woken, self._waking = os.pipe()
        for end in (self._woken, self._waking):
            os.set_blocking(end, False)
        self._before: dict[int, Any] = {}
        self._wakeup_before = -1

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        size = self._console.size
        return max(1, size.width), max(1, size.height)

    def show(self, lines: Sequence[Text]) -> None:
        """Show these lines, from the top. In the background nothing is shown, until the shell's `fg`.

        Raises:
            Left: the terminal is gone.
        """
        if not self._is_in:
            self.enter()
        if not self._is_in:
            return
        _, height = self.size
        text = "\n".join(line + _END_OF_LINE for line in rendered(lines[:height], self._console))
        self._write(f"{_BEGIN}{text}{_END}")

    def wait(self, seconds: float) -> str | None:
        """Wait for a key; None: the time has passed, or the size has changed.

        Raises:
            Left: see there.
        """
        keys = self._keys if self._is_in else None  # in the background to read a key would stop the whole job
        heard = [end for end in (self._woken, self._parent, keys) if end is not None]
        ready, _, _ = select.select(heard, [], [], max(0.0, seconds))
        if self._parent is not None and self._parent in ready:
            raise Left
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
        if keys is None or keys not in ready or not self._is_in:  # it may have been stopped while it waited
            return None
        try:
            pressed = os.read(keys, _KEY_BYTES)
        except OSError:
            pressed = b""
        if not pressed:
            raise Left(_HUNG_UP)
        return pressed[:1].decode("ascii", "ignore") if pressed[:1] != b"\x1b" else None  # an arrow key is none of ours

    @property
    def has_keys(self) -> bool:
        """Whether anybody can press one."""
        return self._keys is not None

    def enter(self) -> None:
        """Take the screen, if it is ours to take."""
        if not is_foreground(self._out):
            return
        if self._keys is not None and self._modes is None:
            with contextlib.suppress(termios.error):
                self._modes = termios.tcgetattr(self._keys)
                tty.setcbreak(self._keys)
        self._write(_ENTER)
        self._is_in = True

    def leave(self) -> None:
        """Give the terminal back as it was. Idempotent."""
        with _undisturbed():
            if self._is_in:
                self._is_in = False
                with contextlib.suppress(Left):
                    self._write(_LEAVE)
            modes, self._modes = self._modes, None
            if self._keys is not None and modes is not None and is_foreground(self._keys):
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._keys, termios.TCSAFLUSH, modes)

    def __enter__(self) -> Self:
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),  # a shell may have had it ignored
            (signal.SIGTERM, self._on_end),
            (signal.SIGHUP, self._on_end),
            (signal.SIGTSTP, self._on_stop),
            (signal.SIGWINCH, lambda _number, _frame: None),
        ):
            self._before[number] = signal.signal(number, handler)
        self._wakeup_before = signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        try:
            self.enter()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self.leave()
        finally:
            signal.set_wakeup_fd(self._wakeup_before)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            for descriptor in (self._woken, self._waking):
                os.close(descriptor)
            if self._keys is not None and self._keys != sys.stdin.fileno():
                os.close(self._keys)

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError as gone:
            raise Left(_HUNG_UP) from gone

    def _on_end(self, number: int, _frame: FrameType | None) -> None:
        raise Left(128 + number)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: give the terminal back, stop, and take the screen again when the shell brings us back."""
        self.leave()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.enter()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal that would end the process comes in between."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def rendered(lines: Sequence[Text], console: Console, *, whole: bool = False) -> Iterator[str]:
    """Each line with the colours that the terminal has; cut where that ends, unless the whole of it is wanted."""
    overflow: OverflowMethod = "ignore" if whole else "crop"
    with console.capture() as capture:
        for line in lines:
            console.print(line, no_wrap=True, overflow=overflow, crop=not whole, end="\n")
    yield from capture.get().split("\n")[: len(lines)]


def _open_keys() -> int | None:
    """Where keys come from: standard input, or the terminal itself where that is something else."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        if sys.stdin.isatty():
            return sys.stdin.fileno()
    with contextlib.suppress(OSError):
        return os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC)
    return None


def is_foreground(terminal: int) -> bool:
    """Whether this process's job has the terminal.

    Only then may it set the modes: in the background that stops the job. And only then are they its own.
    """
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return True
