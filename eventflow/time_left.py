"""How long the rest of a sweep will take, from what its cells have cost so far. Pure.

A run costs a start and something for each request, `a + b·n` seconds, in each stage another. Both are fitted by least
squares of the relative error, so that short runs count as much as long ones, and neither is ever below 0. Of a stage
that is not known well enough, the others tell how cost grows with n.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

_START_SECONDS = 0.5
_REQUEST_SECONDS = 0.005
_GROWTH_MIN = 1.5
"""Two numbers of requests closer than this say nothing about what one more costs."""


class Costs:
    """What runs have cost, by stage and number of requests, and what others will.

    >>> costs = Costs()
    >>> for size in (1, 10, 100):
    ...     costs.note("serial", size, 0.5 + 0.02 * size)
    >>> costs.note("loop", 10, 0.7)
    >>> round(costs.expected("serial", 1000), 1), 3 < costs.expected("loop", 1000) < 30
    (20.5, True)
    """

    def __init__(self) -> None:
        self._seconds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))

    def note(self, stage: str, size: int, seconds: float) -> None:
        """A run took so long, from the start of its process to its end."""
        self._seconds[stage][size].append(seconds)

    def expected(self, stage: str, size: int) -> float:
        """How long a run will take, in seconds.

        Cases: the same was run before; the stage was run with other numbers of requests that tell what one more costs;
        with one number only; not at all.
        """
        known = self._medians(stage)
        if size in known:
            return known[size]
        if known and max(known) >= _GROWTH_MIN * min(known):
            start, each = fitted(list(known.items()))
            return start + each * size
        others = [name for name in self._seconds if name != stage and self._medians(name)]
        if known:
            (nearest, seconds) = min(known.items(), key=lambda item: abs(item[0] - size))
            return seconds * self._growth(others, nearest, size)
        if others:
            return statistics.median(self.expected(name, size) for name in others)
        return _START_SECONDS + _REQUEST_SECONDS * size

    def left(self, cells: Iterable[tuple[str, int]]) -> float:
        """How long these runs will take together, in seconds."""
        return sum(count * self.expected(stage, size) for (stage, size), count in Counter(cells).items())

    def _medians(self, stage: str) -> dict[int, float]:
        return {size: statistics.median(found) for size, found in self._seconds.get(stage, {}).items()}

    def _growth(self, others: Sequence[str], known: int, size: int) -> float:
        """By how much a run of `size` requests takes longer than one of `known`: as in the other stages that tell."""
        ratios = []
        for name in others:
            medians = self._medians(name)
            if max(medians) >= _GROWTH_MIN * min(medians):
                ratios.append(self.expected(name, size) / self.expected(name, known))
        if ratios:
            return statistics.median(ratios)
        start, each = _START_SECONDS, _REQUEST_SECONDS
        return (start + each * size) / (start + each * known)


def fitted(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """`a` and `b` of the line `a + b·n` with the least squares of relative errors, neither below 0.

    Args:
        points: numbers of requests and seconds, with two different numbers at least, and seconds above 0.

    >>> [round(value, 6) for value in fitted([(1, 0.52), (10, 0.7), (100, 2.5)])]
    [0.5, 0.02]
    >>> fitted([(1, 2.0), (100, 1.0)])[1] > 0
    True
    """
    weighed = [(size, seconds, 1 / max(seconds, 1e-3) ** 2) for size, seconds in points]
    total = sum(weight for _, _, weight in weighed)
    mean_size = sum(size * weight for size, _, weight in weighed) / total
    mean_seconds = sum(seconds * weight for _, seconds, weight in weighed) / total
    spread = sum((size - mean_size) ** 2 * weight for size, _, weight in weighed)
    each = sum((size - mean_size) * (seconds - mean_seconds) * weight for size, seconds, weight in weighed) / spread
    start = mean_seconds - each * mean_size
    if start < 0:
        squares = sum(size * size * weight for size, _, weight in weighed)
        return 0.0, sum(size * seconds * weight for size, seconds, weight in weighed) / squares
    if each <= 0:  # more requests took no longer; some of it is theirs all the same
        return 0.9 * mean_seconds, 0.1 * mean_seconds / max(size for size, _ in points)
    return start, each


def about(seconds: float) -> str:
    """A time as exactly as an estimate is.

    >>> [about(seconds) for seconds in (2, 33, 75, 600, 4000, 90_000)]
    ['a few seconds', 'about 35 s', 'about 2 min', 'about 10 min', 'about 1 h 10 min', 'about 25 h']
    """
    if seconds < 8:
        return "a few seconds"
    if seconds <= 55:
        return f"about {math.ceil(seconds / 5) * 5} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, rest = divmod(math.ceil(minutes / 10) * 10, 60)
    return f"about {hours} h {rest:02} min" if rest else f"about {hours} h"
