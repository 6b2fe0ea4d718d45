"""The statistics of a comparison: how sure it is that two runs, or two groups of runs, differ. Pure.

All intervals are percentile bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13):
what was observed is drawn anew, with replacement, some thousand times, and the middle 95 % of the answers is the
interval. Where there are several runs, runs are drawn. Of a single run there is only what it is made of: its requests,
or slices of its time. That tells how sure the run's own number is, but not how much the next run will differ.

Invariants:
    the same values and the same generator give the same answer;
    an interval that holds 1 is never called a difference.
"""

import math
import random
import statistics
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import msgspec

RESAMPLES = 4_000
LEVEL = 0.95
REQUESTS_MIN = 8
"""Of fewer requests nothing is said about how sure their quantiles are."""

SLICES_MIN, SLICES_MAX = 8, 50
_COMPLETED_PER_SLICE = 5

Verdict = Literal["less", "more", "same", "unknown"]


class Ratio(msgspec.Struct, frozen=True):
    """A value by the one that it is compared with, and the interval, None where none is known."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Verdict:
        """What is known: it is less, it is more, it may be the same, or nothing."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 1 <= self.high:
            return "same"
        return "less" if self.high < 1 else "more"


def compare(
    value: float, baseline: float, draws: Sequence[float] | None, baseline_draws: Sequence[float] | None
) -> Ratio | None:
    """One value by another. None where there is no such ratio.

    Args:
        value: the one.
        baseline: the other.
        draws: the one's bootstrap distribution; None where none is known.
        baseline_draws: the other's, drawn independently, and as many.

    >>> compare(3.0, 2.0, [2.9, 3.1], [2.0, 2.0])
    Ratio(value=1.5, low=1.4525, high=1.5475)
    >>> compare(3.0, 2.0, None, [2.0, 2.0]), compare(1.0, 0.0, None, None)
    (Ratio(value=1.5, low=None, high=None), None)
    """
    if baseline <= 0 or value < 0:
        return None
    if draws is None or baseline_draws is None or min(baseline_draws) <= 0:
        return Ratio(value / baseline)
    return Ratio(value / baseline, *interval([one / other for one, other in zip(draws, baseline_draws, strict=True)]))


def interval(draws: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of a bootstrap distribution."""
    ordered = sorted(draws)
    outside = (1 - LEVEL) / 2
    return _at(ordered, outside), _at(ordered, 1 - outside)


def draw_medians(values: Sequence[float], chance: random.Random, resamples: int = RESAMPLES) -> list[float] | None:
    """The bootstrap distribution of the median of several runs' values. None of fewer than two."""
    if len(values) < 2:
        return None
    return [statistics.median(chance.choices(values, k=len(values))) for _ in range(resamples)]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The order statistic that `draw_quantiles` is about: of n values the ⌈n·share⌉-th.

    >>> quantile([1, 2, 3, 4], 0.5), quantile([1, 2, 3, 4], 0.95), quantile([7], 0.5)
    (2, 4, 7)
    """
    return ordered[max(1, math.ceil(len(ordered) * share)) - 1]


def draw_quantiles(
    ordered: Sequence[float], share: float, chance: random.Random, resamples: int = RESAMPLES
) -> list[float] | None:
    """The bootstrap distribution of a quantile of a run's requests, without drawing the requests.

    The k-th smallest of n draws with replacement is the ⌈n·U⌉-th smallest of what they were drawn from, where U is the
    k-th smallest of n uniform numbers, and that has the distribution Beta(k, n-k+1). So a draw costs the same for ten
    requests as for a million.

    Args:
        ordered: the values, the smallest first.
        share: 0.5 for the median.
        chance: where randomness comes from.
        resamples: how many draws.

    Returns:
        The draws, or None where there are too few values to tell.
    """
    count = len(ordered)
    if count < REQUESTS_MIN:
        return None
    place = max(1, math.ceil(count * share))
    draw = chance.betavariate
    return [
        ordered[min(count, max(1, math.ceil(count * draw(place, count - place + 1)))) - 1] for _ in range(resamples)
    ]


def slices_for(completed: int) -> int | None:
    """Into how many slices the time of a run is cut. None where it has too few requests for that.

    >>> slices_for(10), slices_for(100), slices_for(10_000)
    (None, 20, 50)
    """
    count = min(SLICES_MAX, completed // _COMPLETED_PER_SLICE)
    return count if count >= SLICES_MIN else None


def draw_seconds(
    counts: Sequence[int],
    span_seconds: float,
    other_seconds: float,
    chance: random.Random,
    resamples: int = RESAMPLES,
) -> list[float]:
    """The bootstrap distribution of how long a run takes, by blocks of slices of its time.

    Neighbouring slices are drawn together, since a slow one is seldom alone (circular block bootstrap: Politis and
    Romano, 1992). What a run needs before its first request ends and after its last is taken as it was.

    Args:
        counts: how many requests ended in each slice of the time between the first and the last that did.
        span_seconds: how long that time is.
        other_seconds: how long the run took besides.
        chance: where randomness comes from.
        resamples: how many draws.
    """
    slices, block = len(counts), max(1, round(len(counts) ** (1 / 3)))
    sums = [0, *accumulate((*counts, *counts[:block]))]
    blocks = [sums[start + block] - sums[start] for start in range(slices)]
    taken = math.ceil(slices / block)
    usual = sum(counts) * taken * block / slices
    return [
        other_seconds + span_seconds * usual / max(1, sum(chance.choices(blocks, k=taken))) for _ in range(resamples)
    ]


def in_words(ratio: Ratio | None, less: str, more: str) -> str:
    """What a ratio says.

    Args:
        ratio: it.
        less: the word for a ratio below 1: "faster" for times.
        more: the word for one above 1.

    >>> in_words(Ratio(0.44, 0.42, 0.48), "faster", "slower"), in_words(Ratio(1.5, 1.25, 1.75), "faster", "slower")
    ('faster by 2.08 to 2.38 times', 'slower by 1.25 to 1.75 times')
    >>> in_words(Ratio(1.1, 0.9, 1.3), "faster", "slower"), in_words(Ratio(2.0), "faster", "slower")
    ('no difference', 'slower by 2 times, uncertain')
    """
    if ratio is None:
        return ""
    if ratio.low is None or ratio.high is None:
        return _unsure(ratio.value, less, more)
    match ratio.verdict:
        case "less":
            return f"{less} by {_range(1 / ratio.high, 1 / ratio.low if ratio.low > 0 else math.inf)} times"
        case "more":
            return f"{more} by {_range(ratio.low, ratio.high)} times"
        case _:
            return "no difference"


def _unsure(value: float, less: str, more: str) -> str:
    if value in (0, 1):
        return "the same" if value else less
    return f"{less if value < 1 else more} by {_range(*[max(value, 1 / value)] * 2)} times, uncertain"


def _range(low: float, high: float) -> str:
    """Three digits; more behind the point where the first ones are 1.0, so that it says by how much they differ."""
    first, last = (f"{low:.3f}", f"{high:.3f}") if low < 1.1 else (f"{low:.3g}", f"{high:.3g}")
    return first if first == last else f"{first} to {last}"


def _at(ordered: Sequence[float], share: float) -> float:
    """A quantile of draws, between two of them where it falls there."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    rest = place - below
    above = ordered[min(below + 1, len(ordered) - 1)]
    return ordered[below] + (above - ordered[below]) * rest if rest else ordered[below]
