"""Amounts and levels over time, in bounded memory: the last minute by the second, and all of it by ever longer steps.

For whoever watches a run: what is going on now, and how it went. Times are unix nanoseconds, as in events.

Invariants:
    memory does not grow with time, or with how often something is noted;
    what comes late is put where it belongs for as long as that place is kept, whatever the order.
"""

RECENT_SECONDS = 60
STEPS_MAX = 128
_SECOND_NS = 1_000_000_000
_ELAPSED_SECONDS_MIN = 0.05
_LEFT_SECONDS = 30


class Amounts:
    """How much there was of something: events, bytes.

    Args:
        seconds: how many seconds back it can be asked about.

    Attributes:
        total: how much in all.
    """

    __slots__ = ("_amounts", "_seconds", "_size", "total")

    def __init__(self, seconds: int = RECENT_SECONDS + 2) -> None:
        self._size = seconds
        self._seconds = [-1] * seconds
        self._amounts = [0] * seconds
        self.total = 0

    def add(self, when_ns: int, amount: int = 1) -> None:
        """There was so much then."""
        self.total += amount
        second = when_ns // _SECOND_NS
        place = second % self._size
        kept = self._seconds[place]
        if kept == second:
            self._amounts[place] += amount
        elif kept < second:
            self._seconds[place], self._amounts[place] = second, amount

    def per_second(self, now_ns: int, window: int, since_ns: int) -> float:
        """The mean of the last `window` whole seconds and of this one so far, or since `since_ns` if that is later."""
        second, rest = divmod(now_ns, _SECOND_NS)
        elapsed = min(window + rest / _SECOND_NS, (now_ns - since_ns) / _SECOND_NS)
        if elapsed < _ELAPSED_SECONDS_MIN:
            return 0.0
        return sum(map(self._at, range(max(second - window, since_ns // _SECOND_NS), second + 1))) / elapsed

    def seconds_for(self, amount: int, now_ns: int, since_ns: int) -> float | None:
        """How long so much more will take at the rate of the last half minute, in seconds; None if nothing goes on."""
        rate = self.per_second(now_ns, _LEFT_SECONDS, since_ns)
        return max(0, amount) / rate if rate else None

    def recent(self, now_ns: int, since_ns: int, seconds: int = RECENT_SECONDS) -> list[float]:
        """The amounts of the last whole seconds, the oldest first, but for those before `since_ns`."""
        now = now_ns // _SECOND_NS
        return [float(self._at(second)) for second in range(max(now - seconds, since_ns // _SECOND_NS), now)]

    def _at(self, second: int) -> int:
        place = second % self._size
        return self._amounts[place] if self._seconds[place] == second else 0


class Level:
    """What something was: memory, a limit. The last value of a second, or of a longer step, counts."""

    __slots__ = ("_recent", "_whole", "value")

    def __init__(self) -> None:
        self._recent: dict[int, float] = {}
        self._whole = Course(sums=False)
        self.value = 0.0

    def note(self, when_ns: int, value: float) -> None:
        """It was that then."""
        self.value = value
        self._whole.note(when_ns, value)
        self._recent[when_ns // _SECOND_NS] = value
        if len(self._recent) > RECENT_SECONDS + 2:
            del self._recent[min(self._recent)]

    def recent(self, now_ns: int, seconds: int = RECENT_SECONDS) -> list[float]:
        """What it was in the last seconds, this one among them, the oldest first; from when it was first known on."""
        now, known = now_ns // _SECOND_NS, self._recent
        begin = now - seconds
        before = [second for second in known if second <= begin]
        value = known[max(before)] if before else None
        found: list[float] = []
        for second in range(begin + 1, now + 1):
            value = known.get(second, value)
            if value is not None:
                found.append(value)
        return found

    def whole(self, now_ns: int) -> list[float]:
        """What it was, from the beginning until now."""
        return self._whole.steps(now_ns)


class Course:
    """How something went from its beginning on, in at most 128 steps of one length: 1 s at first, then twice as long.

    Args:
        sums: whether what is noted in one step is added up, and given per second; else the last value counts.

    Attributes:
        step_seconds: how long a step is.
    """

    __slots__ = ("_begin", "_sums", "_values", "step_seconds")

    def __init__(self, *, sums: bool) -> None:
        self._sums, self._begin, self.step_seconds = sums, -1, 1
        self._values: list[float | None] = []

    def note(self, when_ns: int, value: float) -> None:
        """There was so much then, or it was that then."""
        second = when_ns // _SECOND_NS
        if self._begin < 0:
            self._begin = second
        since = max(0, second - self._begin)
        while since // self.step_seconds >= STEPS_MAX:
            self._double()
        place = since // self.step_seconds
        if place >= len(self._values):
            self._values += [None] * (place + 1 - len(self._values))
        self._values[place] = value + (self._values[place] or 0.0 if self._sums else 0.0)

    def steps(self, now_ns: int) -> list[float]:
        """The course until now. Where nothing was noted nothing happened, or it was as before."""
        if self._begin < 0:
            return []
        now = max(0, now_ns // _SECOND_NS - self._begin) // self.step_seconds
        missing = min(STEPS_MAX, now + 1) - len(self._values)
        found, before = [], 0.0
        for value in [*self._values, *[None] * missing]:
            if self._sums:
                found.append((value or 0.0) / self.step_seconds)
            else:
                before = before if value is None else value
                found.append(before)
        return found

    def _double(self) -> None:
        pairs = [self._values[place : place + 2] for place in range(0, len(self._values), 2)]
        self.step_seconds *= 2
        if self._sums:
            self._values = [sum(value or 0.0 for value in pair) for pair in pairs]
        else:
            self._values = [pair[-1] if pair[-1] is not None else pair[0] for pair in pairs]
