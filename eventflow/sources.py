"""Where time, ids and randomness come from: the one place that a test or a simulation replaces.

Everything that is not a function of its arguments enters the program here, so a run with `SeededSources`
writes the same bytes every time.

Invariants:
    event ids sort by the time at which they were made; trace and span ids are never all zeros (W3C Trace Context
    §3.2.2).
"""

import random
import secrets
import time
import uuid
from typing import Protocol

import uuid_utils

_UUID7_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)


class Sources(Protocol):
    """Time, ids and randomness. Implementations are safe to call from any thread."""

    def time_ns(self) -> int:
        """The wall clock, in nanoseconds since 1970 (UTC). It may step; never subtract two of them."""
        ...

    def monotonic_ns(self) -> int:
        """A clock for durations, in nanoseconds from an arbitrary start. It never goes backwards."""
        ...

    def event_id(self) -> str:
        """A new UUIDv7 (RFC 9562 §5.7), 36 characters."""
        ...

    def trace_id(self) -> str:
        """A new W3C trace id: 32 lower-case hex digits, not all zeros."""
        ...

    def span_id(self) -> str:
        """A new W3C span id: 16 lower-case hex digits, not all zeros."""
        ...

    def name_suffix(self) -> str:
        """Eight hex digits that tell two runs or two writers apart."""
        ...


class SystemSources:
    """The machine's clocks and the operating system's randomness."""

    def __init__(self) -> None:
        # Seeded per process from the system: span ids need uniqueness, not secrecy, and this is five times cheaper.
        self._random_bits = random.Random(secrets.randbits(128)).getrandbits  # noqa: S311

    # The builtins themselves, to save a call each.
    time_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.perf_counter_ns)

    def event_id(self) -> str:
        """A UUIDv7 of this moment."""
        return str(uuid_utils.uuid7())

    def trace_id(self) -> str:
        """128 random bits, never zero."""
        return f"{self._random_bits(128) or 1:032x}"

    def span_id(self) -> str:
        """64 random bits, never zero."""
        return f"{self._random_bits(64) or 1:016x}"

    def name_suffix(self) -> str:
        """Eight hex digits from the system's randomness."""
        return secrets.token_hex(4)


class SeededSources:
    """Deterministic sources: each reading of a clock moves it on by one microsecond, ids follow from the seed.

    Two runs that make the same calls in the same order get the same answers, so their logs are byte-identical.

    >>> a, b = SeededSources(7), SeededSources(7)
    >>> [a.event_id(), a.span_id(), a.time_ns()] == [b.event_id(), b.span_id(), b.time_ns()]
    True
    """

    def __init__(self, seed: int, start_ns: int = 1_767_225_600_000_000_000) -> None:
        self._random = random.Random(seed)  # noqa: S311  (determinism is the point)
        self._now_ns = start_ns

    def time_ns(self) -> int:
        """One microsecond after the reading before it."""
        self._now_ns += 1_000
        return self._now_ns

    def monotonic_ns(self) -> int:
        """The same clock as `time_ns`."""
        return self.time_ns()

    def event_id(self) -> str:
        """A UUIDv7 whose time is this clock's and whose random part follows from the seed."""
        milliseconds = self.time_ns() // 1_000_000
        tail = (self._random.getrandbits(12) << 64) | self._random.getrandbits(62)
        return str(uuid.UUID(int=(milliseconds << 80) | _UUID7_VERSION_AND_VARIANT | tail))

    def trace_id(self) -> str:
        """128 bits that follow from the seed."""
        return f"{self._random.getrandbits(128) or 1:032x}"

    def span_id(self) -> str:
        """64 bits that follow from the seed."""
        return f"{self._random.getrandbits(64) or 1:016x}"

    def name_suffix(self) -> str:
        """Eight hex digits that follow from the seed."""
        return f"{self._random.getrandbits(32):08x}"
