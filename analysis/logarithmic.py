"""Logarithmic axes: where their labels are."""

import math
from collections.abc import Sequence

from analysis.appearance import alt

LABELS_MIN = 4


def log_axis(values: Sequence[float], *, upward: bool = False) -> alt.Axis:
    """An axis for these positive values, with labels at round ones."""
    flush = alt.Undefined if upward else False
    ticks = spaced_ticks(min(values), max(values))
    return alt.Axis(values=ticks, format=",~r", labelOverlap="greedy", labelFlush=flush, labelSeparation=8)


def spaced_ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to `high`, few enough to be read and, where there is room, enough to read values off.

    >>> spaced_ticks(1, 10_000)
    [1.0, 10.0, 100.0, 1000.0, 10000.0]
    >>> spaced_ticks(46, 140)
    [50.0, 60.0, 70.0, 80.0, 90.0, 100.0]
    """
    found = [log_ticks(low, high, digits) for digits in ((1,), (1, 2, 5), range(1, 10))]
    return next((ticks for ticks in found if len(ticks) >= LABELS_MIN), found[-1])


def log_scale(values: Sequence[float]) -> alt.Scale:
    """A scale for these positive values, with a little room around them, also if there is only one."""
    low, high = min(values), max(values)
    room = (high / low) ** 0.06 if high > low * 1.01 else 1.5
    return alt.Scale(type="log", domain=[low / room, high * room], nice=False)


def log_ticks(low: float, high: float, digits: Sequence[int] = (1, 2, 5)) -> list[float]:
    """Round values from `low` to `high`: so many times the powers of ten; at least one, however near the two are.

    >>> log_ticks(0.015, 0.3)
    [0.02, 0.05, 0.1, 0.2]
    """
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
    return [tick for tick in ticks if low <= tick <= high] or [float(f"{low:.3g}")]
