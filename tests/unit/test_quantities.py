"""Amounts as people write and read them."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import UsageError
from eventflow.quantities import (
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)

Parse = Callable[[str], float]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_size, "0", 0),
        (parse_size, "64KiB", 65_536),
        (parse_size, " 1.5 MB ", 1_500_000),
        (parse_size, "2k", 2_048),
        (parse_size, "1tib", 1 << 40),
        (parse_rate, "1MiB/s", 1 << 20),
        (parse_rate, "500 kB", 500_000),
        (parse_duration, "20ms", 0.02),
        (parse_duration, "3", 3.0),
        (parse_duration, "250µs", 0.00025),
        (parse_duration, "1.5min", 90.0),
        (parse_duration, "2h", 7_200.0),
        (parse_share, "2%", 0.02),
        (parse_share, "1", 1.0),
    ],
)
def test_amounts_are_read(parse: Parse, text: str, value: float) -> None:
    """Units in any case, with a space or without."""
    assert parse(text) == pytest.approx(value)


@pytest.mark.parametrize("parse", [parse_size, parse_rate, parse_duration, parse_share])
@pytest.mark.parametrize(
    "text",
    ["", "x", "-1", "1 2", "1e5", "ms", "1 parsec", "\x00", "1" * 5 + "q", "9" * 400],
    ids=lambda text: text[:10],
)
def test_what_is_no_amount_says_what_one_looks_like(parse: Parse, text: str) -> None:
    """One line, with examples."""
    with pytest.raises(UsageError, match="write "):
        parse(text)


def test_a_rate_is_more_than_nothing() -> None:
    """At no bytes a second nothing would ever end."""
    with pytest.raises(UsageError, match="at least 1 byte a second"):
        parse_rate("0/s")


def test_a_share_is_at_most_all() -> None:
    """101 % is a mistake."""
    with pytest.raises(UsageError, match="at most 100%"):
        parse_share("101%")


@given(st.text())
def test_nothing_but_a_usage_error_is_raised(text: str) -> None:
    """Whatever is typed."""
    for parse in (parse_size, parse_rate, parse_duration, parse_share):
        with contextlib.suppress(UsageError):
            assert parse(text) >= 0


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (format_size(0), "0 B"),
        (format_size(1_023), "1023 B"),
        (format_size(65_536), "64.0 KiB"),
        (format_size(5 << 40), "5.0 TiB"),
        (format_duration(0), "0 ms"),
        (format_duration(0.0215), "22 ms"),
        (format_duration(0.9996), "1.00 s"),
        (format_duration(99.5), "99.50 s"),
        (format_duration(3_599.6), "1 h 00 min"),
        (format_count(999), "999"),
        (format_count(1_234_567), "1 234 567"),
    ],
)
def test_amounts_are_shown(shown: str, text: str) -> None:
    """Few digits, a unit."""
    assert shown == text
