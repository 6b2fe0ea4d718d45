"""How time grows with the number of requests: time = a + b·nᵏ, fitted, with intervals. Pure functions.

The three parts are what people ask: `a` is the start-up, `k` says whether twice the requests take twice the time (1),
less or more, and the slope at the largest size is what one more request costs there. A plain slope on logarithmic axes
would mix them: start-up makes any program look as if it scaled better than it does.

Relative errors are what counts (weights 1/t²), since a run of one request and one of ten thousand differ a
thousandfold in time. For a given k, a and b are a weighted least-squares problem of two unknowns, which needs sums by
size only; k is searched. The intervals are from the bootstrap over runs: the fit is done again for runs drawn with
replacement, of each size as many as there are, and the middle 95 % of the results are the interval. A size that was run
once would be drawn as it is each time and seem to be known exactly; so then there is no interval.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

import msgspec

from eventflow.comparing import interval

SIZES_MIN = 4
RATIO_MIN = 8
DRAWS = 300
K_MIN, K_MAX = 0.1, 3.0
_GROWTH_MIN = 1e-6  # of the start-up: less is what rounding leaves of none
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 22
Point = tuple[float, float]


class Interval(msgspec.Struct, frozen=True):
    """A value and from where to where it may be, with 95 % confidence; None where nothing tells."""

    value: float
    low: float | None = None
    high: float | None = None


class Fit(msgspec.Struct, frozen=True):
    """time = a + b·nᵏ, and of how many runs and sizes. `slope_seconds`: for one more request at the largest size.

    Where the time does not grow, any k fits, and 0 is given: n⁰ does not grow either.
    """

    k: Interval
    start_seconds: Interval
    slope_seconds: Interval
    runs: int
    sizes: int
    largest: float

    @property
    def grows(self) -> bool:
        """Whether more requests take more time at all."""
        return self.k.value > 0


def fit(points: Sequence[Point], seed: int = 1) -> Fit | None:
    """The fit of times (seconds) to sizes, or None where there are too few sizes, too near together, to tell.

    Args:
        points: the size and the time of each run, both above 0.
        seed: of the draws, so that the same runs give the same intervals.

    >>> found = fit([(n, 0.5 + 0.01 * n) for n in (1, 10, 100, 1000)])
    >>> round(found.k.value, 3), round(found.start_seconds.value, 3), round(found.slope_seconds.value, 4)
    (1.0, 0.5, 0.01)
    """
    if not _is_enough(points):
        return None
    largest = max(size for size, _ in points)
    of_size: dict[float, list[Point]] = defaultdict(list)
    for point in points:
        of_size[point[0]].append(point)
    drawn = []
    if all(len(there) > 1 for there in of_size.values()):
        chance = random.Random(seed)  # noqa: S311  (no secret)
        for _ in range(DRAWS):
            sample = [point for there in of_size.values() for point in chance.choices(there, k=len(there))]
            drawn.append(_figures(sample, largest))
    best = _figures(points, largest)
    k, start, slope = (_interval(value, [figures[place] for figures in drawn]) for place, value in enumerate(best))
    return Fit(k, start, slope, len(points), len(of_size), largest)


def _is_enough(points: Sequence[Point]) -> bool:
    sizes = {size for size, _ in points}
    return len(sizes) >= SIZES_MIN and max(sizes) >= RATIO_MIN * min(sizes)


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    return Interval(value, *interval(drawn)) if drawn else Interval(value)


def _figures(points: Sequence[Point], largest: float) -> tuple[float, float, float]:
    """k, a, and the slope at the largest size. k by golden-section search: the error has one valley in it.

    Where nothing grows the error is the same for every k, and the search would end anywhere: k is 0 then.
    """
    sums: dict[float, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for size, seconds in points:
        sums[size][0] += 1 / seconds**2
        sums[size][1] += 1 / seconds
    low, high = K_MIN, K_MAX
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _solve(sums, left)[0] < _solve(sums, right)[0]:
            high = right
        else:
            low = left
    k = (low + high) / 2
    _, a, b = _solve(sums, k)
    if b * largest**k <= _GROWTH_MIN * a:
        return 0.0, a, 0.0
    return k, a, b * k * largest ** (k - 1)


def _solve(sums: dict[float, list[float]], k: float) -> tuple[float, float, float]:
    """The error, a and b of the best fit with this k; neither is negative. The error lacks a constant."""
    w = wx = wxx = wt = wxt = 0.0
    for size, (weight, weighted_time) in sums.items():
        x = size**k
        w, wx, wxx = w + weight, wx + weight * x, wxx + weight * x * x
        wt, wxt = wt + weighted_time, wxt + weighted_time * x
    spread = w * wxx - wx * wx
    a, b = ((wt * wxx - wxt * wx) / spread, (w * wxt - wx * wt) / spread) if spread > 0 else (0.0, wxt / wxx)
    if a < 0:
        a, b = 0.0, wxt / wxx
    if b < 0:
        a, b = wt / w, 0.0
    return w * a * a + 2 * a * b * wx + b * b * wxx - 2 * (a * wt + b * wxt), a, b
