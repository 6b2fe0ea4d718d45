"""What the origin serves and how badly: settings, and the pure functions that decide from them.

Everything follows from the seed, the number of the file and the number of the try, so any client, at any concurrency
and in any order, is treated alike.
"""

import math
import random
from enum import StrEnum
from hashlib import blake2b

import msgspec

from eventflow.errors import UsageError, name_of
from eventflow.quantities import parse_share

FILES_MAX = 10_000_000
SIZE_MAX = 1 << 50
SPREAD_MAX = 5
SLOW_FACTOR = 10.0
_SECONDS_MAX = 86_400


class Fault(StrEnum):
    """A way to fail. `REFUSE` holds for every try of a file, the others for one try."""

    REFUSE = "refuse"
    RESET = "reset"
    ERROR = "500"
    UNAVAILABLE = "503"
    STALL = "stall"
    SHORT_BODY = "short-body"
    WRONG_LENGTH = "wrong-length"
    WRONG_BYTES = "wrong-bytes"


class OriginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve.

    Attributes:
        files: how many files.
        size: their median size in bytes.
        size_spread: sigma of the log-normal distribution of sizes; 0 gives every file the same size.
        latency_s: the median time, in seconds, from a request to its response.
        latency_spread: sigma of the log-normal distribution of latencies.
        bandwidth: bytes a second for each connection; None for as fast as it goes.
        total_bandwidth: bytes a second for all connections together; None for as fast as it goes.
        concurrency: how many requests are handled at once, from their turn until their answer is written; the others
            wait in line. None for all that come.
        cpu_s: CPU time for each request, in seconds, one request after the other.
        slow_after_s: after so many seconds latencies are ten times as long; None for never.
        faults: the share of tries that fail in each way.
        stall_s: how long a stalled response stays open, in seconds.
        retry_after_s: what a 503 says in Retry-After.
        seed: everything follows from it.
    """

    files: int = 100
    size: int = 65_536
    size_spread: float = 0.0
    latency_s: float = 0.0
    latency_spread: float = 0.0
    bandwidth: int | None = None
    total_bandwidth: int | None = None
    concurrency: int | None = None
    cpu_s: float = 0.0
    slow_after_s: float | None = None
    faults: dict[str, float] = {}
    stall_s: float = 10.0
    retry_after_s: int = 1
    seed: int = 1

    def check(self) -> None:
        """Raise UsageError if the settings cannot be served, with the name of what is wrong."""
        _check_within("files", self.files, 1, FILES_MAX)
        _check_within("size", self.size, 0, SIZE_MAX)
        _check_within("size spread", self.size_spread, 0, SPREAD_MAX)
        _check_within("latency in seconds", self.latency_s, 0, _SECONDS_MAX)
        _check_within("latency spread", self.latency_spread, 0, SPREAD_MAX)
        _check_within("stall in seconds", self.stall_s, 0, _SECONDS_MAX)
        _check_within("retry-after in seconds", self.retry_after_s, 0, _SECONDS_MAX)
        _check_within("CPU time in seconds", self.cpu_s, 0, _SECONDS_MAX)
        if self.bandwidth is not None:
            _check_within("bandwidth in bytes a second", self.bandwidth, 1, SIZE_MAX)
        if self.total_bandwidth is not None:
            _check_within("total bandwidth in bytes a second", self.total_bandwidth, 1, SIZE_MAX)
        if self.concurrency is not None:
            _check_within("concurrency", self.concurrency, 1, FILES_MAX)
        if self.slow_after_s is not None:
            _check_within("slow after, in seconds", self.slow_after_s, 0, _SECONDS_MAX)
        for fault, rate in self.faults.items():
            _check_fault(fault)
            _check_within(f"share of {fault}", rate, 0, 1)
        if sum(self.faults.values()) > 1 + 1e-9:  # shares that people add up to 100% may be a bit more in binary
            raise UsageError("the fault rates add up to more than 100%", "lower them")


def latency_factor(settings: OriginSettings, served_s: float) -> float:
    """By how much latencies are longer after so many seconds of serving."""
    return SLOW_FACTOR if settings.slow_after_s is not None and served_s >= settings.slow_after_s else 1.0


class Plan(msgspec.Struct, frozen=True):
    """What happens to one try: after `latency_s` seconds, a good response or a fault."""

    latency_s: float
    fault: Fault | None


def decide(settings: OriginSettings, number: int, attempt: int) -> Plan:
    """What happens to try `attempt` (from 0) of file `number`."""
    if _refuses(settings, number):
        return Plan(0.0, Fault.REFUSE)
    if not settings.faults and not settings.latency_spread:
        return Plan(settings.latency_s, None)
    chance = _random(settings.seed, "try", number, attempt)
    latency = _log_normal(chance, settings.latency_s, settings.latency_spread)
    left = chance.random()
    for fault, rate in settings.faults.items():
        if fault != Fault.REFUSE:
            left -= rate
            if left < 0:
                return Plan(latency, Fault(fault))
    return Plan(latency, None)


def is_refused(settings: OriginSettings, number: int) -> bool:
    """Whether the file's address is one where nothing listens."""
    return _refuses(settings, number)


def file_size(settings: OriginSettings, number: int) -> int:
    """The size of file `number` in bytes."""
    if settings.size_spread == 0 or settings.size == 0:
        return settings.size
    chance = _random(settings.seed, "size", number, 0)
    return min(SIZE_MAX, max(1, round(_log_normal(chance, settings.size, settings.size_spread))))


def even_faults(share: float) -> dict[str, float]:
    """A share of faults, spread evenly over all the ways to fail."""
    return {fault.value: share / len(Fault) for fault in Fault} if share else {}


def parse_faults(text: str) -> dict[str, float]:
    """Fault rates as people write them: a share for all, or some by name.

    >>> parse_faults("500=1%,stall=0.5%")
    {'500': 0.01, 'stall': 0.005}
    """
    if "=" not in text:
        return even_faults(parse_share(text))
    rates = {}
    for piece in text.split(","):
        name, _, share = piece.strip().partition("=")
        _check_fault(name)
        rates[name] = parse_share(share)
    return rates


def _check_within(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # NaN is not within either
        raise UsageError(f"{what}: {value}", f"give {least} to {most}")


def _check_fault(name: str) -> None:
    if name not in list(Fault):
        raise UsageError(f"no fault {name_of(name)}", f"choose from {', '.join(Fault)}")


def _refuses(settings: OriginSettings, number: int) -> bool:
    rate = settings.faults.get(Fault.REFUSE, 0.0)
    return rate > 0 and _random(settings.seed, "refuse", number, 0).random() < rate


def _random(seed: int, purpose: str, number: int, attempt: int) -> random.Random:
    digest = blake2b(f"{seed} {purpose} {number} {attempt}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest))  # noqa: S311  (determinism is the point)


def _log_normal(chance: random.Random, median: float, sigma: float) -> float:
    return chance.lognormvariate(math.log(median), sigma) if median > 0 and sigma > 0 else median
