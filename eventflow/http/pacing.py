"""When the next request to an origin may start, if it is to get only so many a second.

The generic cell rate algorithm (ITU-T I.371) with its tolerance used for jitter and for a loop that wakes up late, not
for bursts. Slots lie one interval apart, and each start is up to half an interval after its slot.

Invariants:
    in any T seconds at most (T + slack) × rate + 1 requests start, with a slack of half an interval and 20 ms;
    a request that waits for its turn does not use it up;
    whoever asks always gets through in the end: no hold is longer than `HOLD_S_MAX`.
"""

import math

HOLD_S_MAX = 600.0
_JITTER = 0.5  # of an interval
_LATE_S = 0.02


class Pacer:
    """The schedule of one origin. Times are of one monotonic clock, in seconds.

    Args:
        rate: requests a second, above 0; None: no limit but what `hold_until` says.
    """

    __slots__ = ("_delay_s", "_held_s", "_interval_s", "_slack_s", "_slot_s")

    def __init__(self, rate: float | None) -> None:
        self._interval_s = 1 / rate if rate else 0.0
        self._slack_s = _JITTER * self._interval_s + _LATE_S
        self._slot_s = self._held_s = -math.inf
        self._delay_s = -1.0  # unknown before the first request

    def next_start(self, now_s: float, chance: float) -> float:
        """0 if a request starts now, which then has been counted; else the seconds until it is worth asking again.

        `chance`, in [0, 1), moves each start, the first and the one after a hold as well, by up to half an interval,
        so that workers which share an origin do not start in step.
        """
        delay_s = chance * _JITTER * self._interval_s
        if self._delay_s < 0:
            self._slot_s, self._delay_s = now_s, delay_s
        self._held_s = min(self._held_s, now_s + HOLD_S_MAX)
        start_s = max(self._slot_s, self._held_s) + self._delay_s
        if now_s < start_s:
            return start_s - now_s
        # What was late by no more than the slack is caught up with; a pause is no credit for a burst.
        self._slot_s = max(self._slot_s, now_s - self._slack_s) + self._interval_s
        self._delay_s = delay_s
        return 0.0

    def hold_until(self, when_s: float) -> None:
        """Start nothing before that time: the origin asked for it. An earlier end than one that is known counts not."""
        self._held_s = max(self._held_s, when_s)
