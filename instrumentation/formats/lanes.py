"""Where things that overlap in time are drawn: lanes for stories, and rows within one for its spans. Pure.

A track of a trace viewer is a stack: what begins in it while something is open is inside that. So what overlaps needs
tracks of its own, as few as possible, and within a story each span goes where it nests.

Invariants:
    no two intervals of a lane overlap, in whatever order they come; if they come by their ends there are no more lanes
    than intervals at once at the busiest moment;
    the edges of a row nest, and are in the order of time.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from instrumentation.traces.span import FinishedSpan, SpanEvent


class Bar(NamedTuple):
    """What is drawn: a span, or a moment within one."""

    start_ns: int
    end_ns: int
    what: FinishedSpan | SpanEvent


class Edge(NamedTuple):
    """Where a bar begins, or where the innermost open one ends: then there is no bar. A moment has no end."""

    time_ns: int
    bar: Bar | None


class Lanes:
    """The lanes of one kind of thing. A lane is known by its number, from 0."""

    def __init__(self) -> None:
        self._free: list[tuple[int, int]] = []  # since when, which lane; sorted

    def take(self, start_ns: int, end_ns: int) -> int:
        """The lane for what lasts from `start_ns` to `end_ns`: of those that are free then the one taken last.

        >>> lanes = Lanes()
        >>> [lanes.take(*times) for times in ((0, 4), (1, 5), (4, 6), (5, 9))]
        [0, 1, 0, 1]
        """
        place = bisect_right(self._free, start_ns, key=lambda free: free[0]) - 1
        lane = self._free.pop(place)[1] if place >= 0 else len(self._free)
        self._free.insert(bisect_left(self._free, (end_ns, lane)), (end_ns, lane))
        return lane


def rows(bars: Sequence[Bar]) -> list[list[Edge]]:
    """The edges of some bars, in rows in which they nest. A bar goes into the first row where it does."""
    found: list[_Row] = []
    for bar in sorted(bars, key=lambda bar: (bar.start_ns, -bar.end_ns)):
        for row in found:
            if row.add(bar):
                break
        else:
            found.append(row := _Row())
            row.add(bar)
    for row in found:
        row.close()
    return [row.edges for row in found]


class _Row:
    """One row while it is filled."""

    def __init__(self) -> None:
        self.edges: list[Edge] = []
        self._ends: list[int] = []  # of what is open, the innermost last

    def add(self, bar: Bar) -> bool:
        """Whether it nests here; then it is added. Bars come by their starts, those that enclose others first."""
        is_span = isinstance(bar.what, FinishedSpan)
        over_ns = bar.start_ns if is_span else bar.start_ns - 1  # a moment at the end of a span is within it
        while self._ends and self._ends[-1] <= over_ns:
            self.edges.append(Edge(self._ends.pop(), None))
        if self._ends and bar.end_ns > self._ends[-1]:
            return False
        self.edges.append(Edge(bar.start_ns, bar))
        if is_span:
            self._ends.append(bar.end_ns)
        return True

    def close(self) -> None:
        """End what is open."""
        while self._ends:
            self.edges.append(Edge(self._ends.pop(), None))
