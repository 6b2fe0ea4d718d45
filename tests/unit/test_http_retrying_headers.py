"""What Retry-After and RateLimit ask for, in all the forms that servers write, and in those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.http.retrying import parse_rate_limit, parse_retry_after

NOW = 1_795_435_200.0  # 23 November 2026, 12:00:00 UTC, a Monday


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 3 ", 3.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("9" * 20, 1e20),
        ("Mon, 23 Nov 2026 12:01:00 GMT", 60.0),
        ("Monday, 23-Nov-26 12:01:00 GMT", 60.0),
        ("Mon Nov 23 12:01:00 2026", 60.0),
        ("Tue Dec  1 12:00:00 2026", 8 * 86_400.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Monday, 23-Nov-76 12:00:00 GMT", (50 * 365 + 13) * 86_400.0),
        ("Wednesday, 23-Nov-77 12:00:00 GMT", 0.0),
        ("Wed, 30 Dec 2026 23:59:60 GMT", 37 * 86_400 + 43_200.0),
        ("Tue, 23 Nov 2026 12:01:00 GMT", 60.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799 - NOW),
        (None, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("٣", None),
        ("5, 5", None),
        ("soon", None),
        ("9" * 5000, None),
        ("Mon, 31 Feb 2026 12:00:00 GMT", None),
        ("Mon, 23 Nov 2026 24:00:00 GMT", None),
        ("Mon, 23 Nov 2026 12:00:00 +0100", None),
        ("Mon, 23 Nov 2026 12:00:00", None),
        ("Mon, 23 Nov 0000 12:00:00 GMT", None),
        ("2026-11-23T12:00:00Z", None),
    ],
)
def test_retry_after_in_both_forms(text: str | None, seconds: float | None) -> None:
    """Seconds, or any of the three dates of RFC 9110 §5.6.7; two digits of a year are at most 50 years ahead."""
    found = parse_retry_after(text, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"default";r=5;t=30'}, 0.0),
        ({"ratelimit": '"default";r=5'}, 0.0),
        ({"ratelimit": '"default";r=0'}, None),
        ({"ratelimit": "default; t=30; r=0"}, 30.0),
        ({"ratelimit": '"a";r=0;t=10, "b";r=5;t=60'}, 10.0),
        ({"ratelimit": '"a";r=0;t=10, "b";r=0;t=60'}, 60.0),
        ({"ratelimit": '"a, \\";r=0;t=9";r=5;t=1'}, 0.0),
        ({"ratelimit": '"a";pk="x;r=0;t=9";r=5'}, 0.0),
        ({"ratelimit": '"a";r=0;t=-1'}, None),
        ({"ratelimit": '"a";r=0;t=x'}, None),
        ({"ratelimit": '"a;r=0;t=1'}, None),
        ({"ratelimit": '"a";rr=0;tt=1'}, None),
        ({"ratelimit": "limit=100, remaining=0, reset=7"}, 7.0),
        ({"ratelimit": "limit=100, remaining=3, reset=7"}, 0.0),
        ({"ratelimit": "limit=100, reset=7"}, None),
        ({"ratelimit": '"a";r=0;t=1,' * 500}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"ratelimit-remaining": "1", "ratelimit-reset": "12"}, 0.0),
        ({"ratelimit-remaining": "1"}, 0.0),
        ({"ratelimit-remaining": "0"}, None),
        ({"ratelimit-reset": "12"}, None),
        ({"ratelimit": "?", "ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "60"}, 60.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0.5"}, 0.5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 45)}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{int(NOW) + 45}000"}, 45.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) - 45)}, 0.0),
        ({"x-rate-limit-remaining": "0", "x-rate-limit-reset": " 9 "}, 9.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2026-11-23"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-5"}, None),
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "5"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9" * 5000}, None),
    ],
)
def test_rate_limits_in_all_spellings(headers: dict[str, str], seconds: float | None) -> None:
    """The longest wait of the policies that are used up, 0 where something is left, None for what makes no sense."""
    assert parse_rate_limit(headers, NOW) == seconds


FRAGMENTS = st.lists(st.sampled_from(["0", "9", "r", "t", "=", ";", ",", '"', "\\", " ", "remaining=", "reset="]))


@given(text=st.text(max_size=40) | FRAGMENTS.map("".join), now_s=st.floats(0, 1e10))
def test_no_header_makes_them_raise(text: str, now_s: float) -> None:
    """Whatever a server sends: a number that is not negative, or None."""
    values = [
        parse_retry_after(text, now_s),
        parse_rate_limit({"ratelimit": text}, now_s),
        parse_rate_limit({"x-ratelimit-remaining": text, "x-ratelimit-reset": text}, now_s),
        parse_rate_limit({"x-ratelimit-remaining": "0", "x-ratelimit-reset": text}, now_s),
    ]
    assert all(value is None or value >= 0 for value in values)
