"""Ctrl-C, or no memory, at the k-th instant of a call, for every k.

The interpreter handles a signal when a function of ours begins, when any call has returned (so the call was done, and
its result is lost), and when a loop begins again; nowhere else. A trace function raises the error at each of these.
"""

import dis
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import eventflow

_PACKAGE = str(Path(eventflow.__file__).parent)
_INSTRUCTIONS = ("RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW")  # after which CPython 3.11 and later look for signals


class _Interrupter:
    """Counts instants of the package's code, in this thread, and raises at one of them."""

    def __init__(self, error: type[BaseException], at: int) -> None:
        self._error, self._left = error, at
        self._last: dict[FrameType, int] = {}
        self.raised: str | None = None

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> "_Interrupter | None":
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and self._is_instant(frame):
            self._left -= 1
            if self._left < 0:
                self.raised = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"
                raise self._error
        return self

    def _is_instant(self, frame: FrameType) -> bool:
        last, self._last[frame] = self._last.get(frame), frame.f_lasti
        if last is None:
            return False
        return frame.f_lasti < last or dis.opname[frame.f_code.co_code[last]] in _INSTRUCTIONS


def interrupted_everywhere(
    error: type[BaseException], prepare: Callable[[], Callable[[], object]]
) -> Iterator[tuple[str, bool]]:
    """Call what `prepare` gives, each time anew, and have it interrupted one instant later each time.

    Gives where that was, and whether the error came out of the call; ends when the call ends before its interruption.
    """
    at = 0
    while True:
        call, interrupter, came_out = prepare(), _Interrupter(error, at), False
        before = sys.gettrace()
        sys.settrace(interrupter)
        try:
            call()
        except error:
            came_out = True
        finally:
            sys.settrace(before)
        if interrupter.raised is None:
            return
        yield f"{at}: {interrupter.raised}", came_out
        at += 1
