"""How many requests may be in flight to one origin at once: a number that is given, or one that is found.

`AdaptiveLimit` climbs on measured throughput. More in flight helps until something is full: the origin's workers, a
link, or our own CPU. From there on it only makes each request wait, and at some origins it makes all of them slow.
Latency alone cannot tell, since it varies with the sizes of files and with our own event loop; throughput can. What is
measured is requests and bytes together, so that neither a mix of sizes nor a change of it looks like a slower origin.

    SEARCH  doubles the limit while that brings a quarter more (the start-up of BBR, draft-ietf-ccwg-bbr), and then
            lands a fifth above the knee: the best rate, divided by the best rate for each request in flight.
    HOLD    measures. After some windows it probes a quarter up or a fifth down, in turns.
    PROBE   stays where it is if that was good, and else goes back. Upward is good if two fifths of the proportional
            gain came: so of two clients of one origin the one with less catches up (who has most gains little by more).
            Downward is good if less than a tenth of the proportional loss came. A few in flight need less reason.
    SINK    halves the limit while that costs little, after latency has grown threefold. Then SEARCH.

A window is a whole number of generations: from one completion to the completion of a request that began after it. So
requests that move in step, as they do at an origin of constant latency, are counted rightly.

Pure: time and every fact are arguments. `finished` costs well under a microsecond where no window ends.

Invariants:
    least <= limit <= most, always;
    what began before the last change of the limit is no evidence for or against it.
"""

import math
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

INITIAL = 8
LEAST = 1
MOST = 1_024

_HEADROOM = 1.2
_DOWN = 0.8
_SINK_LOSS = 0.3
_ROAD_FREE = 0.7  # a probe that gains so much of the proportional gain is followed by a search
_FULL = 0.8  # in flight, of the limit; with less, the limit is not what holds the rate
_WINDOW_REQUESTS_MIN = {True: 16, False: 24}  # while searching, and else
_RECOVERING_REQUESTS_MIN = 4
_WINDOW_SECONDS_MIN = {True: 0.025, False: 0.1}
_HISTORY_WINDOWS = 5
_WINDOW_SECONDS_MAX = 4.0  # unless not even one whole turn of the requests in flight, or four, ended in that time
_LONGER_MAX = 4
_PATIENCE_MIN, _PATIENCE_MAX = 2, 32
_PATIENCE_SECONDS_MAX = 15.0
_SLOW = 3.0
_SLOW_REQUESTS, _SLOW_SECONDS = 8, 0.25
_SLOW_LONG_REQUESTS, _SLOW_LONG_SECONDS = 3, 1.0
_FAILED_WEIGHT, _FAILED_SHARE = 1 / 32, 0.2
_SILENCE_SECONDS = 0.5


class _Manner(NamedTuple):
    """How much of the proportional gain or loss is worth a step.

    Attributes:
        search: for going on with doubling.
        up_factor: how far up a probe goes.
        up: for staying there.
        down: at most so much of the loss, for staying down.
    """

    search: float
    up_factor: float
    up: float
    down: float


# Few in flight harm nobody, and at a soft knee the last tenth of throughput costs many: so up to here every gain is
# taken. With more, a gain must be worth it, or two clients that share an origin would drive each other up without end.
_FEW = 32
_GENEROUS = _Manner(search=0.1, up_factor=1.5, up=0.15, down=0.03)
_STRICT = _Manner(search=0.25, up_factor=1.25, up=0.4, down=0.1)


def _manner(limit: int) -> _Manner:
    return _GENEROUS if limit <= _FEW else _STRICT


class FixedLimit:
    """A limit that never changes, with the interface of `AdaptiveLimit`."""

    __slots__ = ("limit", "reason")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reason = "fixed"

    def finished(self, now_s: float, latency_s: float, in_flight: int, size_bytes: int, ok: bool) -> bool:
        """Nothing changes."""
        del now_s, latency_s, in_flight, size_bytes, ok
        return False

    def waited(self, now_s: float) -> bool:
        """Nothing changes."""
        del now_s
        return False


class _Phase(Enum):
    SEARCH = "search"
    HOLD = "hold"
    PROBE = "probe"
    SINK = "sink"


class _Window:
    """What was completed in a time: all that is compared."""

    __slots__ = ("bytes", "count", "in_flight", "latency_s", "limit", "seconds")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = self.bytes = self.in_flight = 0
        self.latency_s = self.seconds = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.count / max(self.seconds, 1e-9)

    @property
    def full(self) -> bool:
        """Whether the limit was what held the rate."""
        return self.in_flight >= _FULL * self.limit * self.count

    def gain(self, other: "_Window") -> float:
        """The throughput here for each unit of the other's: the geometric mean of requests and bytes a second."""
        requests = self.rate / max(other.rate, 1e-9)
        if not (self.bytes and other.bytes):
            return requests
        return math.sqrt(requests * self.bytes * other.seconds / (other.bytes * max(self.seconds, 1e-9)))


def _middle(windows: Iterable[_Window]) -> _Window:
    """Windows of one limit added up, without the fastest and the slowest if there are enough."""
    ordered = sorted(windows, key=lambda one: one.rate)
    if len(ordered) >= 4:
        ordered = ordered[1:-1]
    total = _Window(ordered[0].limit)
    for one in ordered:
        total.count += one.count
        total.bytes += one.bytes
        total.seconds += one.seconds
    return total


class AdaptiveLimit:
    """A limit that finds the number of requests in flight with which an origin gives the most.

    Args:
        initial: where it begins.
        least: it never goes below.
        most: it never goes above.

    Attributes:
        limit: how many requests may be in flight now.
        reason: why it is what it is, in a few words, for the event that says so.
    """

    def __init__(self, initial: int = INITIAL, *, least: int = LEAST, most: int = MOST) -> None:
        self._least, self._most = least, most
        self.limit = min(max(initial, least), most)
        self.reason = "start"
        self._phase = _Phase.SEARCH
        self._base: _Window | None = None
        self._best_share = 0.0
        self._usual: _Window | None = None
        self._history: deque[_Window] = deque(maxlen=_HISTORY_WINDOWS)
        self._held, self._patience = 0, _PATIENCE_MIN
        self._confirmed = self._downward = self._recovering = False
        self._failed_share = 0.0
        self._last_s = self._changed_s = self._opened_s = self._generation_s = self._slow_since_s = -math.inf
        self._window: _Window | None = None
        self._fresh = self._slow = 0
        self._slow_above_s = math.inf
        self._needed, self._seconds_min = _WINDOW_REQUESTS_MIN[True], _WINDOW_SECONDS_MIN[True]

    def finished(self, now_s: float, latency_s: float, in_flight: int, size_bytes: int, ok: bool) -> bool:
        """Take account of a request that ended.

        Args:
            now_s: when, on a monotonic clock.
            latency_s: since it took its place among those in flight.
            in_flight: how many there were just before it ended, itself among them.
            size_bytes: of its body.
            ok: False if it failed in a way that says too much: a time limit, 429, 503, a lost connection.

        Returns:
            Whether `limit` changed.
        """
        began_s = now_s - latency_s
        fresh = began_s >= self._changed_s
        self._last_s = now_s
        if not ok:
            return fresh and self._count_failed(now_s)
        if fresh:
            self._failed_share -= self._failed_share * _FAILED_WEIGHT
            if latency_s > self._slow_above_s:
                if self._is_slow(now_s, began_s, size_bytes):
                    return self._retreat(now_s, "slow")
            else:
                self._slow = 0
            self._fresh += 1
        window = self._window
        if window is None:
            if self._fresh * 2 > self.limit:
                self._window = _Window(self.limit)
                self._opened_s = self._generation_s = now_s
            return False
        window.count += 1
        window.bytes += size_bytes
        window.in_flight += in_flight
        window.latency_s += latency_s
        if began_s >= self._generation_s:
            self._generation_s = now_s
            seconds = now_s - self._opened_s
            enough = window.count >= self._needed and seconds >= self._seconds_min
            if enough or (seconds >= _WINDOW_SECONDS_MAX and window.count >= max(4, self.limit)):
                return self._close(now_s, window)
        return False

    def waited(self, now_s: float) -> bool:
        """Take account of silence: call it now and then while requests are in flight, say once a second.

        Returns:
            Whether `limit` changed: it halves when nothing ended for three times as long as requests take here.
        """
        if self._usual is None or now_s - self._last_s < max(_SILENCE_SECONDS, _SLOW * self._usual.latency_s):
            return False
        self._last_s = now_s
        return self._retreat(now_s, "silent")

    def _close(self, now_s: float, window: _Window) -> bool:
        """A window ended: compare it, and say whether the limit changed."""
        window.seconds = now_s - self._opened_s
        window.latency_s /= window.count
        self._window = None
        if not self._slow:  # or these may be the first signs of an origin that is getting slow, and not usual
            self._usual = window
            self._slow_above_s = _SLOW * window.latency_s
        if not window.full:  # too little to do: nothing can be learned, and nothing that was begun is finished
            if self._phase is _Phase.PROBE and self._base:
                return self._hold(now_s, self._base.limit, "too little to do")
            return self._again(now_s)
        match self._phase:
            case _Phase.SEARCH:
                return self._search(now_s, window)
            case _Phase.HOLD:
                return self._measure(now_s, window)
            case _Phase.PROBE:
                return self._judge(now_s, window)
            case _Phase.SINK:
                return self._sink(now_s, window)

    def _search(self, now_s: float, window: _Window) -> bool:
        """Double while it helps; land near the knee when it does not."""
        base = self._base
        self._best_share = max(self._best_share, window.rate / window.limit)
        gain = window.gain(base) if base else math.inf
        if base is None or gain - 1 >= _manner(window.limit).search * (window.limit / base.limit - 1):
            self._base, self._confirmed = window, False
            if window.limit < self._most:
                return self._move(now_s, window.limit * 2, "search")
            return self._hold(now_s, window.limit, "search ended")
        if not self._confirmed:  # it may have been a hiccup
            self._confirmed = True
            return self._again(now_s)
        knee = _HEADROOM * max(window.rate, base.rate) / self._best_share
        landing = min(max(math.ceil(knee), base.limit), window.limit) if gain >= 1 else base.limit
        return self._hold(now_s, landing, "search ended")

    def _measure(self, now_s: float, window: _Window) -> bool:
        """Hold; after some windows, probe."""
        if self._history and self._history[-1].limit != window.limit:
            self._history.clear()
        self._history.append(window)
        self._held += 1
        if self._recovering:
            return self._start_search(now_s, window)
        patient = self._held < self._patience and now_s - self._changed_s < _PATIENCE_SECONDS_MAX
        if patient or self._slow or self._least == self._most:
            return self._again(now_s)
        self._downward = not self._downward
        if self.limit == (self._least if self._downward else self._most):
            self._downward = not self._downward
        self._base = _middle(self._history)
        self._phase, self._confirmed = _Phase.PROBE, False
        if self._downward:
            return self._move(now_s, min(self.limit - 1, int(self.limit * _DOWN)), "probe down")
        return self._move(now_s, max(self.limit + 1, math.ceil(self.limit * _manner(self.limit).up_factor)), "probe up")

    def _judge(self, now_s: float, window: _Window) -> bool:
        """Stay where the probe went, or go back."""
        base = self._base
        assert base is not None
        elasticity = (window.gain(base) - 1) / (window.limit / base.limit - 1)
        manner = _manner(window.limit)
        good = elasticity <= manner.down if self._downward else elasticity >= manner.up
        if not good:
            self._patience = min(self._patience * 2, _PATIENCE_MAX)
            return self._hold(now_s, base.limit, "probe in vain")
        if not self._confirmed:
            self._confirmed = True
            return self._again(now_s)
        self._patience = _PATIENCE_MIN
        if not self._downward and elasticity >= _ROAD_FREE and window.limit < self._most:
            return self._start_search(now_s, window)
        self._downward = not self._downward  # the next probe goes on in this direction
        return self._hold(now_s, window.limit, "probe succeeded")

    def _start_search(self, now_s: float, window: _Window) -> bool:
        self._phase, self._base = _Phase.SEARCH, window
        self._confirmed = self._recovering = False
        self._best_share = window.rate / window.limit
        return self._move(now_s, window.limit * 2, "search")

    def _sink(self, now_s: float, window: _Window) -> bool:
        """Halve while it costs little; then see whether more brings more."""
        base = self._base
        if base is not None and 1 - window.gain(base) > _SINK_LOSS * (1 - window.limit / base.limit):
            return self._start_search(now_s, base)
        if window.limit == self._least:
            return self._start_search(now_s, window)
        self._base = window
        return self._move(now_s, window.limit // 2, "slow")

    def _is_slow(self, now_s: float, began_s: float, size_bytes: int) -> bool:
        """Whether requests of ordinary size take three times as long, many in a row and not for a moment only.

        A pause of our own process makes all that are in flight late at once: hence the quarter of a second.
        """
        usual = self._usual
        assert usual is not None
        if size_bytes * usual.count > 2 * usual.bytes and size_bytes:
            return False
        if self._slow == 0:
            self._slow_since_s = began_s
        self._slow += 1
        seconds = now_s - self._slow_since_s
        if seconds >= _SLOW_LONG_SECONDS:
            return self._slow >= _SLOW_LONG_REQUESTS
        return self._slow >= _SLOW_REQUESTS and seconds >= _SLOW_SECONDS

    def _count_failed(self, now_s: float) -> bool:
        self._failed_share += (1 - self._failed_share) * _FAILED_WEIGHT
        return self._failed_share >= _FAILED_SHARE and self._retreat(now_s, "refused")

    def _retreat(self, now_s: float, reason: str) -> bool:
        """Less, at once: back to what was good if this was an attempt at more, else half."""
        self._failed_share = 0.0
        trying = self._phase in (_Phase.SEARCH, _Phase.PROBE) and self._base is not None
        if trying and self._base and self._base.limit < self.limit:
            self._patience = min(self._patience * 2, _PATIENCE_MAX)
            return self._hold(now_s, self._base.limit, reason)
        self._base = self._usual = None
        if reason == "refused":
            self._recovering = True
            return self._hold(now_s, self.limit // 2, reason)
        self._phase = _Phase.SINK
        return self._move(now_s, self.limit // 2, reason)

    def _hold(self, now_s: float, limit: int, reason: str) -> bool:
        self._phase, self._held, self._base = _Phase.HOLD, 0, None
        return self._move(now_s, limit, reason)

    def _again(self, now_s: float) -> bool:
        """Another window at the same limit."""
        self._window = _Window(self.limit)
        self._opened_s = self._generation_s = now_s
        return False

    def _move(self, now_s: float, limit: int, reason: str) -> bool:
        """Go to a limit, and measure there when it has taken effect."""
        before, self.limit = self.limit, min(max(limit, self._least), self._most)
        self._settle(now_s)
        if self.limit == before:
            return False
        self.reason = reason
        return True

    def _settle(self, now_s: float) -> None:
        searching = self._phase in (_Phase.SEARCH, _Phase.SINK)
        self._changed_s = now_s
        self._window = None
        self._fresh = self._slow = 0
        self._opened_s = self._generation_s = self._slow_since_s = now_s
        # What was tried in vain again and again is decided by longer and longer windows.
        longer = 1 if searching else min(self._patience // _PATIENCE_MIN, _LONGER_MAX)
        least = _RECOVERING_REQUESTS_MIN if self._recovering else _WINDOW_REQUESTS_MIN[searching] * longer
        self._needed = max(least, self.limit)
        usual = self._usual
        # At an origin that is full already, latency grows with the limit: that is not what slow means.
        self._slow_above_s = (
            _SLOW * usual.latency_s * max(1.0, self.limit / usual.limit) if usual is not None else math.inf
        )
        self._seconds_min = _WINDOW_SECONDS_MIN[searching]
