"""When the next request to an origin may start, if it is to get only so many a second.

Invariants:
    over any time, no more requests start than the rate allows, and one;
    a request that waits for its turn does not use it up.
"""

_JITTER = 0.5


class Pacer:
    """The schedule of one origin (a leaky bucket without a burst). Times are of one monotonic clock, in seconds.

    Args:
        rate: requests a second; None: no limit but what `hold_until` says.
    """

    __slots__ = ("_interval_s", "_next_s")

    def __init__(self, rate: float | None) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._next_s = 0.0

    def next_start(self, now_s: float, chance: float) -> float:
        """0 if a request starts now, which then has been counted; else the seconds until it is worth asking again.

        `chance`, in [0, 1), moves each start by up to half an interval, so that clients do not fall into step.
        """
        if now_s < self._next_s:
            return self._next_s - now_s
        if self._interval_s:
            # On average one interval; what was late is caught up with at most one interval's worth.
            late = min(now_s - self._next_s, self._interval_s) if self._next_s else 0.0
            self._next_s = now_s + max(0.0, self._interval_s * (1 - _JITTER / 2 + _JITTER * chance) - late)
        return 0.0

    def hold_until(self, when_s: float) -> None:
        """Start nothing before that time: the origin asked for it."""
        self._next_s = max(self._next_s, when_s)
