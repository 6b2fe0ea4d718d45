"""Whether to try again and when: tables of what is decided, and bounds on what a crowd may do."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow import errors
from eventflow.errors import (
    BadEncoding,
    BadResponse,
    BodyTooLarge,
    CertificateRejected,
    ChecksumMismatch,
    ClientStatus,
    ConnectFailed,
    ConnectionLost,
    ConnectRefused,
    DeadlinePassed,
    DiskFull,
    ExpandsTooMuch,
    FileNotWritten,
    HeadTooLarge,
    InvalidRequest,
    NameNotResolved,
    ProgramFailed,
    RequestError,
    ServerAbsent,
    ServerStatus,
    ShortBody,
    TimedOut,
    TooSlow,
    UnexpectedFailure,
)
from eventflow.http.redirects import BadRedirect, TooManyRedirects
from eventflow.http.retrying import (
    Again,
    Breaker,
    GiveUp,
    RetryBudget,
    RetryPolicy,
    decide_retry,
    is_answer,
    is_passing,
    is_unwell,
)
from eventflow.http.robots import RobotsDisallow, RobotsUnavailable

POLICY = RetryPolicy()
NOW = 1_795_435_200.0  # 23 November 2026, 12:00:00 UTC, a Monday

# The error: is it worth another try, is the origin unwell, did it answer?
KINDS: list[tuple[type[RequestError], bool, bool, bool]] = [
    (ConnectRefused, True, True, False),
    (NameNotResolved, True, True, False),
    (ConnectFailed, True, True, False),
    (ConnectionLost, True, True, False),
    (TimedOut, True, True, False),
    (ShortBody, True, False, True),
    (TooSlow, True, False, True),
    (CertificateRejected, False, False, False),
    (BadResponse, False, False, True),
    (HeadTooLarge, False, False, True),
    (TooManyRedirects, False, False, True),
    (BadRedirect, False, False, True),
    (BadEncoding, False, False, True),
    (ExpandsTooMuch, False, False, True),
    (BodyTooLarge, False, False, True),
    (ChecksumMismatch, False, False, False),
    (DiskFull, False, False, False),
    (FileNotWritten, False, False, False),
    (DeadlinePassed, False, False, False),
    (InvalidRequest, False, False, False),
    (RobotsDisallow, False, False, False),
    (RobotsUnavailable, False, False, False),
    (ServerAbsent, False, False, False),
    (ProgramFailed, False, False, False),
    (UnexpectedFailure, False, False, False),
]
UNWELL = (500, 502, 503, 504, 520, 521, 522, 523, 524)


def status(number: int, retry_after: str | None = None) -> RequestError:
    """The error of a status."""
    kind = ClientStatus if number < 500 else ServerStatus
    return kind("http://a/", str(number), number, retry_after)


def decide(failure: RequestError, attempt: int = 1, chance: float = 0.5, **more: float) -> Again | GiveUp:
    """What the usual policy says."""
    return decide_retry(POLICY, failure, attempt=attempt, chance=chance, now_s=NOW, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "passing", "unwell", "answer"), KINDS)
def test_what_each_error_means(kind: type[RequestError], passing: bool, unwell: bool, answer: bool) -> None:
    """What cannot get better by itself is not tried again; only the origin's own trouble counts against it."""
    failure = kind("http://a/", "it happened")
    assert (is_passing(failure), is_unwell(failure), is_answer(failure)) == (passing, unwell, answer)
    assert isinstance(decide(failure), Again if passing else GiveUp)


def test_each_error_of_a_request_is_in_the_table() -> None:
    """Whoever adds an error decides what it means here."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RequestError)}
    statuses = {RequestError, errors.HttpStatus, ClientStatus, ServerStatus}
    assert kinds - statuses <= {kind for kind, *_ in KINDS}


@pytest.mark.parametrize("number", range(400, 600))
def test_what_each_status_means(number: int) -> None:
    """408, 425, 429 and the 5xx that may pass are tried again; what is the request's fault or a refusal is not."""
    failure = status(number)
    assert is_passing(failure) is (number in (408, 425, 429, *UNWELL))
    assert is_unwell(failure) is (number in UNWELL)
    assert is_answer(failure) is (number not in UNWELL)


@pytest.mark.parametrize(
    ("attempt", "most"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (7, 30.0), (60, 30.0), (10_000, 30.0)]
)
def test_waits_double_up_to_the_cap_and_use_their_whole_length(attempt: int, most: float) -> None:
    """Full jitter: any time from 0 up to the bound."""
    policy = RetryPolicy(attempts_max=1_000_000)
    for chance in (0.0, 0.25, 0.999):
        again = decide_retry(policy, TimedOut("", ""), attempt=attempt, chance=chance, now_s=NOW)
        assert again == Again(chance * most, "back-off")


@pytest.mark.parametrize(
    ("failure", "attempts_max", "tries"),
    [
        (TimedOut("", ""), 5, 5),
        (TimedOut("", ""), 1, 1),
        (status(503), 3, 3),
        (NameNotResolved("", ""), 5, 2),
        (NameNotResolved("", ""), 1, 1),
        (status(404), 5, 1),
    ],
)
def test_tries_are_counted(failure: RequestError, attempts_max: int, tries: int) -> None:
    """No more than the policy says. A name gets one more chance only: a resolver was busy, or it is misspelt."""
    policy = RetryPolicy(attempts_max=attempts_max)
    attempt = 1
    while isinstance(decide_retry(policy, failure, attempt=attempt, chance=0.0, now_s=NOW), Again):
        attempt += 1
    assert attempt == tries


@pytest.mark.parametrize(
    ("attempt", "progressed_at", "most"),
    [(4, 0, 4.0), (4, 4, 0.5), (5, 4, 0.5), (6, 4, 1.0), (8, 4, 4.0), (9, 4, None), (49, 49, 0.5), (50, 50, None)],
)
def test_progress_begins_the_count_anew_but_not_for_ever(attempt: int, progressed_at: int, most: float | None) -> None:
    """Five tries in a row that brought nothing end it, and so do fifty in all, whatever they brought."""
    verdict = decide(ConnectionLost("", ""), attempt, progressed_at=progressed_at)
    assert (verdict.seconds * 2 if isinstance(verdict, Again) else None) == most


def test_no_retries_is_no_retries() -> None:
    """Also for a try that brought bytes."""
    policy = RetryPolicy(attempts_max=1)
    verdict = decide_retry(policy, ShortBody("", ""), attempt=1, chance=0.0, now_s=NOW, progressed_at=1)
    assert isinstance(verdict, GiveUp)


@pytest.mark.parametrize(
    ("failure", "rate_limit_s", "verdict"),
    [
        (status(503, "7"), None, Again(7.25, "Retry-After")),
        (status(429, "Mon, 23 Nov 2026 12:00:09 GMT"), None, Again(9.25, "Retry-After")),
        (status(503, "0"), None, Again(0.25, "Retry-After")),
        (status(503, "soon"), None, Again(0.25, "back-off")),
        (status(503, "120"), None, Again(120.25, "Retry-After")),
        (status(503, "121"), None, GiveUp("the server asks to wait 121 s")),
        (status(503, "9" * 300), None, GiveUp(f"the server asks to wait {float('9' * 300):.0f} s")),
        (status(503, "Tue, 24 Nov 2026 12:00:00 GMT"), None, GiveUp("the server asks to wait 86400 s")),
        (status(429), 12.0, Again(12.25, "RateLimit")),
        (status(429, "5"), 12.0, Again(12.25, "Retry-After")),
        (status(429, "5"), 0.0, Again(5.25, "Retry-After")),
        (status(429), 0.0, Again(0.25, "back-off")),
        (status(429), 3600.0, GiveUp("the server asks to wait 3600 s")),
        (status(404, "1"), 1.0, GiveUp("it would fail again")),
    ],
)
def test_what_the_server_asks_for_is_the_least(
    failure: RequestError, rate_limit_s: float | None, verdict: Again | GiveUp
) -> None:
    """The back-off comes on top, so that not all come back at once. Longer than the cap: not now."""
    assert decide(failure, rate_limit_s=rate_limit_s) == verdict  # type: ignore[arg-type]


@given(outcomes=st.lists(st.booleans(), max_size=300), share=st.floats(0, 1), initial=st.floats(0, 20))
def test_an_outage_is_amplified_by_the_share_at_most(outcomes: list[bool], share: float, initial: float) -> None:
    """At any time: retries <= initial + share × successes, and never more saved up than there was to begin with."""
    budget = RetryBudget(RetryPolicy(budget_share=share, budget_initial=initial))
    successes = retries = 0
    for came_through in outcomes:
        if came_through:
            budget.succeeded()
            successes += 1
        else:
            retries += budget.take()
        assert retries <= initial + share * successes + 1e-6
        assert 0 <= budget.left <= initial


def test_five_successes_earn_a_retry() -> None:
    """Exactly five at a share of a fifth: an empty budget fills again."""
    budget = RetryBudget(RetryPolicy(budget_share=0.2, budget_initial=1.0))
    assert budget.take()
    for _ in range(5):
        assert not budget.take()
        budget.succeeded()
    assert budget.take()


def opened_breaker(now_s: float = 100.0) -> Breaker:
    """One that has just opened."""
    breaker = Breaker(failures_max=3, open_s=2.0, open_max_s=10.0)
    assert [breaker.failed(now_s) for _ in range(3)] == [False, False, True]
    return breaker


def test_only_failures_in_a_row_open_a_breaker() -> None:
    """A success between them, and the count begins anew."""
    breaker = Breaker(failures_max=3)
    for _ in range(10):
        assert not breaker.failed(1.0)
        assert not breaker.failed(1.0)
        breaker.succeeded()
    assert breaker.admits(1.0) == 0.0
    assert breaker.opened == 0


def test_an_open_breaker_admits_nobody_then_one_probe() -> None:
    """One probe at a time; who else asks is told to come again soon."""
    breaker = opened_breaker()
    assert breaker.admits(100.0) == 2.0
    assert breaker.admits(101.5) == 0.5
    assert breaker.admits(102.0) == 0.0
    assert 0 < breaker.admits(102.0) <= 1.0
    assert 0 < breaker.admits(103.9) <= 1.0


def test_a_probe_that_comes_through_closes_it() -> None:
    """And then it takes as many failures as ever to open it, for as short a time as ever."""
    breaker = opened_breaker()
    assert breaker.admits(102.0) == 0.0
    breaker.succeeded()
    assert [breaker.admits(102.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert breaker.opened == 0
    assert [breaker.failed(103.0) for _ in range(3)] == [False, False, True]
    assert breaker.admits(103.0) == 2.0


def probe_failures(breaker: Breaker, now_s: float) -> Iterator[float]:
    """For how long it opens each time that its probe fails."""
    while True:
        now_s += breaker.admits(now_s)
        assert breaker.admits(now_s) == 0.0
        assert breaker.failed(now_s)
        yield breaker.until_s - now_s


def test_each_probe_that_fails_doubles_the_time_up_to_the_most() -> None:
    """And `opened` says how often in a row, so that somebody can lose patience."""
    breaker = opened_breaker()
    times = probe_failures(breaker, 100.0)
    assert [next(times) for _ in range(4)] == [4.0, 8.0, 10.0, 10.0]
    assert breaker.opened == 5


def test_a_crowd_that_fails_together_opens_it_once() -> None:
    """The other 61 of 64 in flight: not while it is open, nor after that, before a probe was sent, nor beside one."""
    breaker = opened_breaker()
    assert not any(breaker.failed(100.5) for _ in range(20))
    assert breaker.admits(101.0) == 1.0
    assert not any(breaker.failed(102.5) for _ in range(20))
    assert breaker.admits(102.5) == 0.0
    assert not any(breaker.failed(102.6, 99.0) for _ in range(21))
    assert breaker.failed(102.7, 102.5)
    assert breaker.until_s == pytest.approx(106.7)


def test_stragglers_do_not_open_it_again_after_a_probe_came_through() -> None:
    """What began before it opened says nothing about the origin that answers now."""
    breaker = opened_breaker()
    assert breaker.admits(102.0) == 0.0
    breaker.succeeded()
    assert not any(breaker.failed(103.0, 99.0) for _ in range(61))
    assert breaker.admits(103.0) == 0.0


def test_an_answer_while_it_is_open_closes_it() -> None:
    """A request that was in flight came through: the origin is there."""
    breaker = opened_breaker()
    breaker.succeeded()
    assert breaker.admits(100.1) == 0.0


def test_a_probe_that_nobody_reports_about_does_not_block_the_origin() -> None:
    """After as long as it was open, another is admitted, and only one; a late failure still counts."""
    breaker = opened_breaker()
    assert breaker.admits(102.0) == 0.0
    assert breaker.admits(104.0) == 0.0
    assert breaker.admits(104.0) > 0.0
    assert breaker.failed(107.0)
    assert breaker.until_s == 111.0


@given(
    steps=st.lists(st.tuples(st.sampled_from(["ask", "fail", "success"]), st.floats(0, 20)), max_size=80),
)
def test_whoever_waits_as_told_gets_through(steps: list[tuple[str, float]]) -> None:
    """From any state: asking again after the wait that was given ends with 0, and no wait is over the most."""
    breaker, now_s = Breaker(failures_max=2, open_s=1.0, open_max_s=8.0), 0.0
    for what, pause in steps:
        now_s += pause
        if what == "ask":
            assert 0 <= breaker.admits(now_s) <= 8.0
        elif what == "fail":
            breaker.failed(now_s)
        else:
            breaker.succeeded()
    for _ in range(20):
        wait = breaker.admits(now_s)
        if not wait:
            return
        now_s += wait
    pytest.fail("it never admits anybody")
