"""Ctrl-C and SIGTERM, delivered where they can do no harm.

A signal's exception can come between any two bytecodes of the main thread, also between an event's place in the queue
and the counter that says so. So the handler looks at the stack: inside code that must not be cut in two it asks again a
moment later.

Invariants:
    `Interrupted` is never raised inside the recorder, a measurement, the file store, the book-keeping of a story, or
    an import;
    the third signal ends the process at once: the log can take it.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from eventflow import metrics, recorder, storing, story
from eventflow.story import Interrupted

# What is raised inside the import system may end in a callback of a weak reference, where it is printed and lost.
_IMPORT_SYSTEM = ("<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
_PROTECTED_FILES = frozenset((*(module.__file__ for module in (metrics, recorder, storing, story)), *_IMPORT_SYSTEM))
_AGAIN_SECONDS = 0.001
_SIGNALS_MAX = 3


class Interrupts:
    """While it is entered, SIGINT and SIGTERM raise `Interrupted` in the main thread. Enter it in the main thread.

    Args:
        on_signal: called at once with each signal, in the main thread.
        may_interrupt: whether there is something to interrupt; asked before each raise.
    """

    def __init__(self, on_signal: Callable[[], None], may_interrupt: Callable[[], bool]) -> None:
        self.signal_name: str | None = None
        self._on_signal, self._may_interrupt = on_signal, may_interrupt
        self._count = 0
        self._outside: FrameType | None = None  # what was going on when it was entered, which is not to be protected
        self._before: dict[int, signal.Handlers | Callable[[int, FrameType | None], object] | int | None] = {}

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle one signal that a person or another program sent."""
        self._count += 1
        self.signal_name = self.signal_name or signal.Signals(number).name
        if self._count >= _SIGNALS_MAX:
            os._exit(128 + number)
        self._on_signal()
        if self._count == 1:
            self._raise_when_harmless(frame)

    def _raise_when_harmless(self, frame: FrameType | None) -> None:
        if not self._may_interrupt():  # what was going on may have ended meanwhile
            return
        if not self._is_protected(frame):
            raise Interrupted
        signal.signal(signal.SIGALRM, lambda _number, frame: self._raise_when_harmless(frame))
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

    def _is_protected(self, frame: FrameType | None) -> bool:
        while frame is not None and frame is not self._outside:
            if frame.f_code.co_filename in _PROTECTED_FILES:
                return True
            frame = frame.f_back
        return False

    def __enter__(self) -> Self:
        self._outside = sys._getframe(1)  # noqa: SLF001
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            self._before[number] = signal.getsignal(number)
        signal.signal(signal.SIGINT, self.receive)
        signal.signal(signal.SIGTERM, self.receive)
        return self

    def __exit__(self, _kind: object, _error: BaseException | None, _trace: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._outside = None
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
