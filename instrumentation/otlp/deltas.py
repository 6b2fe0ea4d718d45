"""Sums since the last time they were given, out of sums since the beginning.

Invariants:
    the sum of all that was given is the sum since the beginning;
    what nothing was added to is not given.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from instrumentation.measures import Point
from instrumentation.measures.point import Key, key_of

_Place = tuple[str, str, str, str, tuple[float, ...], Key]


class Deltas:
    """What was given of each point."""

    def __init__(self) -> None:
        self._given: dict[_Place, Point] = {}

    def of(self, points: Iterable[Point], is_delta: Callable[[Point], bool]) -> Iterator[Point]:
        """The points, those that `is_delta` says so of with what came since; they begin where the last ended."""
        for point in points:
            if not is_delta(point):
                yield point
                continue
            place = _place(point)
            before = self._given.get(place)
            self._given[place] = point
            if before is None:
                yield point
            elif (made := _difference(point, before)) is not None:
                yield made
            else:
                self._given[place] = before  # the next one goes back to where the last one ended


def _place(point: Point) -> _Place:
    boundaries = point.spread.boundaries if point.spread is not None else ()
    return point.writer, point.name, point.kind, point.unit, boundaries, key_of(point.attributes)


def _difference(now: Point, before: Point) -> Point | None:
    if now.spread is None or before.spread is None:
        if now.value == before.value:
            return None
        return msgspec.structs.replace(now, value=now.value - before.value, start_ns=before.time_ns)
    count = now.spread.count - before.spread.count
    if not count:
        return None
    spread = msgspec.structs.replace(
        now.spread,
        count=count,
        sum=now.spread.sum - before.spread.sum,
        buckets=tuple(
            after - earlier for after, earlier in zip(now.spread.buckets, before.spread.buckets, strict=True)
        ),
    )
    return msgspec.structs.replace(now, spread=spread, start_ns=before.time_ns)
