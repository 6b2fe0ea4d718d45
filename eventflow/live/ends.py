"""How each request stands, and up to which event of its stream that is known: four bytes a request.

A request's events may be read in any order of writers, and a resume tells its story on, so whoever counts requests has
to know of each one that has ended which event was the last.

Invariants:
    memory is 16 KiB for each 4 096 neighbouring numbers of which one was seen, whatever the numbers are.
"""

from array import array
from enum import IntEnum

_PAGE_BITS = 12
_MASK = (1 << _PAGE_BITS) - 1
_CODE_BITS = 3
_CODE_MASK = (1 << _CODE_BITS) - 1
_VERSION_MAX = (1 << (32 - _CODE_BITS)) - 1
_EMPTY = bytes(4 << _PAGE_BITS)


class Stand(IntEnum):
    """How a request stands."""

    UNSEEN = 0
    IN_FLIGHT = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    UNFINISHED = 5


_STANDS = tuple(Stand)


class Ends:
    """By the number of the request. What was never set is unseen, up to version -1."""

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def get(self, number: int) -> tuple[Stand, int]:
        """How it stands, and the version of the event that says so."""
        page = self._pages.get(number >> _PAGE_BITS)
        if page is None:
            return Stand.UNSEEN, -1
        code = page[number & _MASK]
        return _STANDS[code & _CODE_MASK], (code >> _CODE_BITS) - 1

    def set(self, number: int, stand: Stand, version: int) -> None:
        """It stands so."""
        page = self._pages.get(number >> _PAGE_BITS)
        if page is None:
            page = self._pages[number >> _PAGE_BITS] = array("I", _EMPTY)
        page[number & _MASK] = min(version + 1, _VERSION_MAX) << _CODE_BITS | stand
