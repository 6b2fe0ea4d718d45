"""What all connections to the origin share, so that more of them need not bring more: places and a link.

Invariants:
    no more than so many hold a place at once, and who came first has it first;
    the link never carries more than its rate, counted over any time from when it was idle.
"""

from collections import deque
from collections.abc import Callable


class Places:
    """Places for requests that are handled at once; the others wait in line.

    Args:
        places: how many.
        call_soon: runs a callback later, and not within the call of `leave`: a long line would nest as deeply.
    """

    def __init__(self, places: int, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._free = places
        self._call_soon = call_soon
        self._line: deque[Callable[[], None]] = deque()

    def enter(self, admitted: Callable[[], None]) -> bool:
        """Take a place, if there is one: True. Else False, and `admitted` is called when there is.

        Either way `leave` is due in the end, exactly once.
        """
        if self._free:
            self._free -= 1
            return True
        self._line.append(admitted)
        return False

    def leave(self) -> None:
        """Give a place back: the next in line has it."""
        if self._line:
            self._call_soon(self._line.popleft())
        else:
            self._free += 1


class Link:
    """A link of a rate in bytes a second, that sends one piece after the other."""

    def __init__(self, bandwidth: int) -> None:
        self.bandwidth = bandwidth
        self._free_s = 0.0

    def reserve(self, now_s: float, size_bytes: int) -> float:
        """When a piece that is offered now will have been sent."""
        self._free_s = max(self._free_s, now_s) + size_bytes / self.bandwidth
        return self._free_s
