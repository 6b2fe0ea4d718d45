"""How time grows with the number of requests: time = a + b·nᵏ, fitted, with intervals. Pure functions.

The three parts are what people ask: `a` is the start-up, `k` says whether twice the requests take twice the time (1),
less or more, and the slope at the largest size is what one more request costs there. A plain slope on logarithmic axes
would mix them: start-up makes any program look as if it scaled better than it does.

Relative errors are what counts (weights 1/t²), since a run of one request and one of ten thousand differ a
thousandfold in time. For a given k, a and b are a weighted least-squares problem of two unknowns, which needs sums by
size only; k is searched. The intervals are from the bootstrap over runs: the fit is done again for runs drawn with
replacement, and the middle 95 % of the results are the interval.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

import msgspec

SIZES_MIN = 4
RATIO_MIN = 8
DRAWS = 300
K_MIN, K_MAX = 0.1, 3.0
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 22
Point = tuple[float, float]


class Interval(msgspec.Struct, frozen=True):
    """A value and from where to where it may be, with 95 % confidence."""

    value: float
    low: float
    high: float


class Fit(msgspec.Struct, frozen=True):
    """time = a + b·nᵏ, and of how many runs and sizes. `slope_seconds`: for one more request at the largest size."""

    k: Interval
    start_seconds: Interval
    slope_seconds: Interval
    runs: int
    sizes: int
    largest: float


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
    chance = random.Random(seed)  # noqa: S311  (no secret)
    drawn = []
    for _ in range(DRAWS):
        sample = chance.choices(points, k=len(points))
        if _is_enough(sample):
            drawn.append(_figures(sample, largest))
    best = _figures(points, largest)
    k, start, slope = (_interval(value, [figures[place] for figures in drawn]) for place, value in enumerate(best))
    return Fit(k, start, slope, len(points), len({size for size, _ in points}), largest)


def _is_enough(points: Sequence[Point]) -> bool:
    sizes = {size for size, _ in points}
    return len(sizes) >= SIZES_MIN and max(sizes) >= RATIO_MIN * min(sizes)


def _interval(value: float, drawn: Sequence[float]) -> Interval:
    ordered = sorted([*drawn, value])
    ends = (ordered[round(share * (len(ordered) - 1))] for share in (0.025, 0.975))
    return Interval(value, *ends)


def _figures(points: Sequence[Point], largest: float) -> tuple[float, float, float]:
    """k, a, and the slope at the largest size. k by golden-section search: the error has one valley in it."""
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
