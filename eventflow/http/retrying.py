"""Whether to try again, and when: decided from facts, without a clock and without dice of its own.

Between the director, which knows how an attempt failed, and the next attempt. The forces: most failures of a network
pass by themselves, but whoever tries again at once, or all together, or without end, turns a hiccup into an outage.

Invariants:
    the waits of one request grow and are spread over their whole length (full jitter), so that requests which failed
    together do not come back together;
    in all, retries to an origin are at most a share of its successes and a few to begin with;
    what cannot get better by itself is not tried again.
"""

import math
import re
from calendar import timegm
from collections.abc import Iterator, Mapping
from datetime import date
from time import gmtime

import msgspec

from eventflow.errors import (
    BadResponse,
    BodyTooLarge,
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
# A server that is alive says so with these too: it answered, although not with what was asked for.
_ANSWERED = (HttpStatus, BadResponse, BodyTooLarge, ShortBody, TooSlow)

_NUMBER = re.compile(r"[0-9]{1,300}(?:\.[0-9]{1,30})?")  # a fraction is in no RFC and in some servers
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_NAME = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = (  # RFC 9110 §5.6.7: IMF-fixdate, and the obsolete rfc850-date and asctime-date
    re.compile(rf"{_DAY_NAME}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    re.compile(rf"{_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    re.compile(rf"{_DAY_NAME} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')  # a string of a structured field (RFC 9651 §3.3.3)
_RATE_PARAMETER = re.compile(r";\s*([rt])=([0-9]{1,15})\s*(?=;|\Z)")
_RATE_FIELD = re.compile(r"\s*(remaining|reset)=([0-9]{1,15})\s*")
_RATE_TEXT_MAX = 1024
_EPOCH_FROM = 1_000_000_000  # a reset that is so large is a time, not a number of seconds
_MILLISECONDS_FROM = 100_000_000_000


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how soon.

    Attributes:
        attempts_max: tries of one request in a row that brought nothing, at least 1; 1 is no retry.
        progress_factor: tries in all, as a multiple of that. A large file over a bad line may need many, each of which
            brings a part; a server that gives a byte each time must not keep us for ever.
        base_s, cap_s: the first wait is at most `base_s` seconds, each next one twice as long, at most `cap_s`.
        retry_after_cap_s: a server that asks to wait longer than this is taken at its word: not now.
        budget_share: retries for each success of an origin.
        budget_initial: retries that an origin has before its first success, and the most that it can save up.
    """

    attempts_max: int = 5
    progress_factor: int = 10
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
    policy: RetryPolicy,
    failure: RequestError,
    *,
    attempt: int,
    chance: float,
    now_s: float,
    rate_limit_s: float | None = None,
    progressed_at: int = 0,
) -> Again | GiveUp:
    """Whether a failure is worth another try.

    The wait is capped exponential back-off with full jitter, after what the server asks for, so that those who were
    told the same time do not come back at the same time. A server that asks for longer than the cap is not asked again.

    Args:
        policy: how often and how soon.
        failure: what happened.
        attempt: how many tries there were, this one included, so at least 1.
        chance: a random number in [0, 1).
        now_s: the wall clock, in seconds since 1970, for a Retry-After that is a date.
        rate_limit_s: what `parse_rate_limit` gave for the response, if there was one.
        progressed_at: which of the tries was the last that brought bytes which are kept; 0: none. Back-off and the
            count of tries begin anew there.
    """
    if not is_passing(failure):
        return GiveUp("it would fail again")
    tries = min(policy.attempts_max, _NAME_TRIES_MAX) if isinstance(failure, NameNotResolved) else policy.attempts_max
    in_a_row = max(1, attempt - progressed_at)
    if in_a_row >= tries or attempt >= policy.attempts_max * policy.progress_factor:
        return GiveUp(f"it was tried {attempt} times")
    seconds = chance * min(policy.cap_s, policy.base_s * 2 ** min(in_a_row - 1, 60))
    asked = parse_retry_after(failure.retry_after, now_s) if isinstance(failure, HttpStatus) else None
    reason = "back-off" if asked is None and not rate_limit_s else "Retry-After" if asked is not None else "RateLimit"
    least = max(asked or 0.0, rate_limit_s or 0.0)
    if least > policy.retry_after_cap_s:
        return GiveUp(f"the server asks to wait {least:.0f} s")
    return Again(least + seconds, reason)


def is_passing(failure: RequestError) -> bool:
    """Whether it may be gone at the next try."""
    if isinstance(failure, HttpStatus):
        return failure.status in RETRIED_STATUSES
    return isinstance(failure, _RETRIED) and not isinstance(failure, (CertificateRejected, BadResponse))


def is_unwell(failure: RequestError) -> bool:
    """Whether it says that the origin, and not this one request, is in trouble. 429 and 408 are no sign of it."""
    if isinstance(failure, HttpStatus):
        return failure.status >= 500 and failure.status in RETRIED_STATUSES
    return is_passing(failure) and not isinstance(failure, (ShortBody, TooSlow))


def is_answer(failure: RequestError) -> bool:
    """Whether it says that the origin is well, since it answered: for the breaker a success, like a redirect.

    What is neither this nor `is_unwell` (a full disk, a deadline, a certificate) says nothing about the origin.
    """
    return isinstance(failure, _ANSWERED) and not is_unwell(failure)


def parse_retry_after(text: str | None, now_s: float) -> float | None:
    """The seconds that a Retry-After header asks for, in either form (RFC 9110 §10.2.3). None if it makes no sense.

    >>> parse_retry_after("120", 0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 0.0), parse_retry_after("", 0)
    (120.0, 60.0, None)
    """
    if text is None:
        return None
    text = text.strip(" \t")
    if _NUMBER.fullmatch(text):
        return float(text)
    moment = _parse_date(text, now_s)
    return None if moment is None else max(0.0, moment - now_s)


def _parse_date(text: str, now_s: float) -> float | None:
    """Seconds since 1970 of an HTTP-date. The name of the day is not compared with the date."""
    found = next((match for pattern in _DATES if (match := pattern.fullmatch(text))), None)
    if found is None:
        return None
    year, month = int(found["year"]), _MONTHS.index(found["month"]) + 1
    if len(found["year"]) == 2:  # "more than 50 years in the future" means the past (RFC 9110 §5.6.7)
        now_year = gmtime(max(0.0, min(now_s, 2.0**37))).tm_year
        year += now_year - now_year % 100
        year += 100 if year < now_year - 49 else -100 if year > now_year + 50 else 0
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if hour > 23 or minute > 59 or second > 60:  # 60 is a leap second
        return None
    try:
        day = date(year, month, int(found["day"]))
    except ValueError:
        return None  # 31 February
    return float(timegm((day.year, day.month, day.day, hour, minute, second)))


def parse_rate_limit(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds to leave an origin alone, from what its response says is left of a quota.

    0 where something is left, None where it says nothing that can be understood. It never raises. In this order:
    `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10 (a list of `"policy";r=0;t=30`) and of -07 (`remaining=0,
    reset=30`), `RateLimit-Remaining` and `-Reset` of the drafts before, and those with `X-`, whose reset is a number
    of seconds or, from 10⁹ on, a time since 1970.

    Args:
        headers: names in lower case.
        now_s: the wall clock, in seconds since 1970.

    >>> parse_rate_limit({"ratelimit": '"day";r=100;t=36000, "burst";r=0;t=30'}, 0.0)
    30.0
    """
    waits = list(_rate_limits(headers.get("ratelimit", "")))
    if waits:
        return max(waits)
    for prefix in ("ratelimit-", "x-ratelimit-", "x-rate-limit-"):
        remaining, reset = (headers.get(f"{prefix}{name}", "").strip(" \t") for name in ("remaining", "reset"))
        if not _NUMBER.fullmatch(remaining):
            continue
        if float(remaining) > 0:
            return 0.0
        if _NUMBER.fullmatch(reset):
            return _until_reset(float(reset), now_s)
    return None


def _rate_limits(text: str) -> Iterator[float]:
    """The wait of each policy that the header RateLimit names."""
    plain = _QUOTED.sub("policy", text) if len(text) <= _RATE_TEXT_MAX else ""
    items = plain.split(",") if '"' not in plain else []
    fields = {found[1]: found[2] for item in items if (found := _RATE_FIELD.fullmatch(item))}
    pairs = [(fields.get("remaining"), fields.get("reset"))] if fields else map(_left_and_seconds, items)
    for left, seconds in pairs:
        if left is not None and int(left) > 0:
            yield 0.0
        elif left is not None and seconds is not None:
            yield float(seconds)


def _left_and_seconds(item: str) -> tuple[str | None, str | None]:
    found: dict[str, str] = dict(_RATE_PARAMETER.findall(item))
    return found.get("r"), found.get("t")


def _until_reset(reset: float, now_s: float) -> float:
    if reset < _EPOCH_FROM:
        return reset
    return max(0.0, (reset / 1000 if reset >= _MILLISECONDS_FROM else reset) - now_s)


class RetryBudget:
    """The retries that an origin has left: never more in all than `budget_initial + budget_share × successes`.

    So an outage that meets n requests is made larger by `budget_initial / n` of it at most, whatever each would retry.
    """

    __slots__ = ("_most", "_share", "left")

    def __init__(self, policy: RetryPolicy) -> None:
        self._share, self._most = policy.budget_share, policy.budget_initial
        self.left = policy.budget_initial

    def succeeded(self) -> None:
        """A request came through."""
        if self.left < self._most:
            self.left = min(self._most, self.left + self._share)

    def take(self) -> bool:
        """Take one retry, if one is left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Breaker:
    """Leaves an origin alone that fails again and again: closed, open for a while, then one probe at a time.

    What happens to the 64 requests that are in flight when it opens: their failures count no further, neither while it
    is open nor afterwards, before a probe is sent, so that a crowd which fails together opens it once, not for 64 times
    as long. A straggler that fails while a probe is under way can be told from it by `begun_s`. Any success closes it,
    since an origin that answers is there.

    A probe that has not ended after as long as the breaker was open (a large file, or one that nobody reports about)
    does not hold up the others: then another one is admitted.

    Args:
        failures_max: so many failures without a success between them open it. More than a server that is restarted
            causes among the few requests at the beginning, fewer than are in flight to one that is gone.
        open_s, open_max_s: how long it is open the first time, and at most; each failed probe doubles it.

    Attributes:
        opened: how many times in a row it has opened; 0: it is closed.
        until_s: when it will have been open for long enough.
    """

    __slots__ = (
        "_failures",
        "_failures_max",
        "_has_probe",
        "_open_max_s",
        "_open_s",
        "_opened_s",
        "_probing_until_s",
        "_seconds",
        "opened",
        "until_s",
    )

    def __init__(self, failures_max: int = 20, open_s: float = 1.0, open_max_s: float = 30.0) -> None:
        self._failures_max, self._open_s, self._open_max_s = failures_max, open_s, open_max_s
        self._failures = 0
        self._seconds = self._probing_until_s = self.until_s = 0.0
        self._opened_s = -math.inf
        self._has_probe = False
        self.opened = 0

    def admits(self, now_s: float) -> float:
        """0 if a request may go, else the seconds to wait. After a wait it admits one, the probe: so ask this last."""
        if not self.opened:
            return 0.0
        if now_s < self.until_s:
            return self.until_s - now_s
        if self._has_probe and now_s < self._probing_until_s:
            return min(1.0, self._probing_until_s - now_s)  # it may end before
        self._has_probe, self._probing_until_s = True, now_s + self._seconds
        return 0.0

    def succeeded(self) -> None:
        """The origin answers."""
        self._failures = 0
        self.opened = 0

    def failed(self, now_s: float, begun_s: float = math.inf) -> bool:
        """A failure that says that the origin is unwell; gives whether it opened the breaker.

        `begun_s` is when the request was sent: one that began before the breaker opened says nothing new.
        """
        if begun_s < self._opened_s:
            return False
        if self.opened:
            if not self._has_probe:
                return False
            self._seconds = min(self._open_max_s, self._seconds * 2)
        else:
            self._failures += 1
            if self._failures < self._failures_max:
                return False
            self._seconds = self._open_s
        self.opened += 1
        self._has_probe = False
        self._opened_s, self.until_s = now_s, now_s + self._seconds
        return True
