"""Whether to try again, and when: decided from facts, without a clock and without dice of its own.

Between the director, which knows how an attempt failed, and the next attempt. The forces: most failures of a network
pass by themselves, but whoever tries again at once, or all together, or without end, turns a hiccup into an outage.

Invariants:
    the waits of one request grow and are spread over their whole length (full jitter), so that requests which failed
    together do not come back together;
    in all, retries to an origin are at most a share of its successes and a few to begin with;
    what cannot get better by itself is not tried again.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from eventflow.errors import (
    BadResponse,
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    ConnectRefused,
    HttpStatus,
    NameNotResolved,
    RequestError,
    ShortBody,
    TimedOut,
    TooSlow,
)

# 408, 425 and 429 ask for it; 5xx may pass, but not "I cannot do that" (501, 505 …). 520 to 524 are those of CDNs.
RETRIED_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524))
_RETRIED = (ConnectRefused, ConnectFailed, ConnectionLost, NameNotResolved, TimedOut, ShortBody, TooSlow)
_NAME_TRIES_MAX = 2  # a name that is misspelt stays so; a resolver that was busy is not
_SECONDS = re.compile(r"[0-9]{1,9}")
_RATE_LIMIT = re.compile(r";\s*([rt])=([0-9]{1,9})")
_EPOCH_FROM = 1_000_000_000  # a reset that is so large is a time, not a number of seconds


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon.

    Attributes:
        attempts_max: tries of one request in all.
        base_s, cap_s: the first wait is at most `base_s` seconds, each next one twice as long, at most `cap_s`.
        retry_after_cap_s: a server that asks to wait longer than this is taken at its word: not now.
        budget_share: retries for each success of an origin.
        budget_initial: retries that an origin has before its first success, and the most that it can save up.
    """

    attempts_max: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    retry_after_cap_s: float = 120.0
    budget_share: float = 0.2
    budget_initial: float = 100.0


class Again(msgspec.Struct, frozen=True):
    """Try again after `seconds`."""

    seconds: float
    reason: str


class GiveUp(msgspec.Struct, frozen=True):
    """Do not."""

    reason: str


def decide_retry(
    policy: RetryPolicy, failure: RequestError, *, attempt: int, chance: float, now_s: float
) -> Again | GiveUp:
    """Whether a failure is worth another try.

    Args:
        policy: how often and how soon.
        failure: what happened.
        attempt: how many tries there were, this one included, so at least 1.
        chance: a random number in [0, 1).
        now_s: the wall clock, in seconds since 1970, for a Retry-After that is a date.
    """
    if not is_passing(failure):
        return GiveUp("it would fail again")
    tries = min(policy.attempts_max, _NAME_TRIES_MAX) if isinstance(failure, NameNotResolved) else policy.attempts_max
    if attempt >= tries:
        return GiveUp(f"it was tried {attempt} times")
    seconds = chance * min(policy.cap_s, policy.base_s * 2 ** min(attempt - 1, 60))
    asked = parse_retry_after(failure.retry_after, now_s) if isinstance(failure, HttpStatus) else None
    if asked is None:
        return Again(seconds, "back-off")
    if asked > policy.retry_after_cap_s:
        return GiveUp(f"the server asks to wait {asked:.0f} s")
    return Again(asked + seconds, "Retry-After")


def is_passing(failure: RequestError) -> bool:
    """Whether it may be gone at the next try."""
    if isinstance(failure, HttpStatus):
        return failure.status in RETRIED_STATUSES
    return isinstance(failure, _RETRIED) and not isinstance(failure, (CertificateRejected, BadResponse))


def is_unwell(failure: RequestError) -> bool:
    """Whether it says that the origin, and not this one request, is in trouble."""
    if isinstance(failure, HttpStatus):
        return failure.status in (500, 502, 503, 504, 520, 521, 522, 523, 524)
    return is_passing(failure) and not isinstance(failure, (ShortBody, TooSlow))


def parse_retry_after(text: str | None, now_s: float) -> float | None:
    """The seconds that a Retry-After header asks for, in either form (RFC 9110 §10.2.3). None if it makes no sense.

    >>> parse_retry_after("120", 0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 0.0), parse_retry_after("", 0)
    (120.0, 60.0, None)
    """
    if text is None:
        return None
    text = text.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)  # the three forms of RFC 9110 §5.6.7, and then some
        moment = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, moment - now_s)


def parse_rate_limit(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds to leave an origin alone, from what its response says is left of a quota; None if it says nothing.

    `RateLimit` as in draft-ietf-httpapi-ratelimit-headers, its older separate headers, and the ones with `X-`.
    """
    if (text := headers.get("ratelimit")) is not None:
        found = {key: int(value) for key, value in _RATE_LIMIT.findall(text)}
        return float(found["t"]) if found.get("r") == 0 and "t" in found else None
    for prefix in ("ratelimit-", "x-ratelimit-", "x-rate-limit-"):
        remaining, reset = headers.get(f"{prefix}remaining"), headers.get(f"{prefix}reset")
        if remaining is None or reset is None or not (_SECONDS.fullmatch(reset) or reset.isdecimal()):
            continue
        if remaining.strip() != "0" or len(reset) > 12:
            return None
        seconds = float(reset)
        return max(0.0, seconds - now_s) if seconds >= _EPOCH_FROM else seconds
    return None


class RetryBudget:
    """The retries that an origin has left: a share of its successes."""

    __slots__ = ("_most", "_share", "left")

    def __init__(self, policy: RetryPolicy) -> None:
        self._share, self._most = policy.budget_share, policy.budget_initial
        self.left = policy.budget_initial

    def succeeded(self) -> None:
        """A request came through."""
        if self.left < self._most:
            self.left += self._share

    def take(self) -> bool:
        """Take one retry, if one is left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Breaker:
    """Leaves an origin alone that fails again and again: closed, open for a while, then one probe at a time.

    Failures of requests that were under way when it opened count no further, so that a crowd of 64 which fails together
    opens it once, not for 64 times as long.

    Args:
        failures_max: so many failures without a success between them open it.
        open_s, open_max_s: how long it is open the first time, and at most; each failed probe doubles it.
    """

    __slots__ = (
        "_failures",
        "_failures_max",
        "_open_max_s",
        "_open_s",
        "_probing_until_s",
        "_seconds",
        "opened",
        "until_s",
    )

    def __init__(self, failures_max: int = 20, open_s: float = 1.0, open_max_s: float = 30.0) -> None:
        self._failures_max, self._open_s, self._open_max_s = failures_max, open_s, open_max_s
        self._failures = 0
        self._seconds = 0.0
        self._probing_until_s = 0.0
        self.opened = 0  # times in a row
        self.until_s = 0.0

    def admits(self, now_s: float) -> float:
        """0 if a request may go, else the seconds to wait. After a wait it admits one, the probe."""
        if not self.opened:
            return 0.0
        if now_s < self.until_s:
            return self.until_s - now_s
        if now_s < self._probing_until_s:
            return min(1.0, self._probing_until_s - now_s)
        self._probing_until_s = now_s + max(self._seconds, self._open_s)
        return 0.0

    def succeeded(self) -> None:
        """The origin answers."""
        self._failures = 0
        if self.opened:
            self.opened = 0
            self.until_s = self._probing_until_s = 0.0

    def failed(self, now_s: float) -> bool:
        """A failure that says that the origin is unwell; gives whether it opened the breaker."""
        self._failures += 1
        if self.opened:
            if now_s < self.until_s:
                return False
            self._seconds = min(self._open_max_s, self._seconds * 2)
        elif self._failures >= self._failures_max:
            self._seconds = self._open_s
        else:
            return False
        self.opened += 1
        self.until_s, self._probing_until_s = now_s + self._seconds, 0.0
        return True
