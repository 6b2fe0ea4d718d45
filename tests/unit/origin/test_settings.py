"""Every decision of the origin is a pure function of the seed, the file and the try."""

import math
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.errors import UsageError
from eventflow.origin.settings import (
    SIZE_MAX,
    Fault,
    OriginSettings,
    decide,
    even_faults,
    file_size,
    is_refused,
    parse_faults,
)


def test_sizes_and_latencies_have_their_distribution() -> None:
    """Log-normal around the median, with sigma as the deviation of the logarithm; without a spread all the same."""
    settings = OriginSettings(size=100_000, size_spread=0.5, latency_s=0.02, latency_spread=0.5)
    sizes = [math.log(file_size(settings, number)) for number in range(2_000)]
    latencies = [math.log(decide(settings, number, 0).latency_s) for number in range(2_000)]
    for found, median in ((sizes, 100_000), (latencies, 0.02)):
        assert statistics.median(found) == pytest.approx(math.log(median), abs=0.05)
        assert statistics.stdev(found) == pytest.approx(0.5, rel=0.1)
    assert {decide(OriginSettings(latency_s=0.5), number, 0).latency_s for number in range(9)} == {0.5}
    assert {file_size(OriginSettings(size=7), number) for number in range(9)} == {7}


def test_no_spread_makes_a_size_that_cannot_be_served() -> None:
    """Sizes stay between one byte and the largest that there is, and latencies positive."""
    for size in (1, SIZE_MAX):
        settings = OriginSettings(size=size, size_spread=5)
        assert all(1 <= file_size(settings, number) <= SIZE_MAX for number in range(500))
    assert file_size(OriginSettings(size=0, size_spread=1), 3) == 0


def test_faults_come_at_their_rates_each_try_for_itself() -> None:
    """Two percent is two percent; a retry may succeed, unless nothing listens there at all."""
    settings = OriginSettings(faults=even_faults(0.16))
    faults = [decide(settings, number, 0).fault for number in range(10_000)]
    for fault in Fault:
        assert faults.count(fault) / 10_000 == pytest.approx(0.02, abs=0.006)
    failed = [number for number in range(10_000) if faults[number] not in (None, Fault.REFUSE)]
    assert sum(decide(settings, number, 1).fault is None for number in failed) > 0.8 * len(failed)
    refused = [number for number in range(10_000) if is_refused(settings, number)]
    assert all(decide(settings, number, attempt).fault is Fault.REFUSE for number in refused for attempt in range(3))


@given(st.integers(), st.integers(0, 10**6), st.integers(0, 10), st.floats(0, 1))
def test_a_decision_repeats(seed: int, number: int, attempt: int, share: float) -> None:
    """The same for equal settings; a rate of nothing gives no fault, a rate of all always one."""
    settings = OriginSettings(seed=seed, latency_s=0.1, latency_spread=0.3, faults=even_faults(share))
    again = OriginSettings(seed=seed, latency_s=0.1, latency_spread=0.3, faults=even_faults(share))
    assert decide(settings, number, attempt) == decide(again, number, attempt)
    assert decide(OriginSettings(seed=seed), number, attempt).fault is None
    assert decide(OriginSettings(seed=seed, faults={"500": 1.0}), number, attempt).fault is Fault.ERROR


def test_another_seed_decides_otherwise() -> None:
    """Which files fail, and how large they are."""
    one, other = (OriginSettings(seed=seed, size_spread=0.5, faults={"500": 0.5}) for seed in (1, 2))
    assert [decide(one, number, 0).fault for number in range(64)] != [
        decide(other, number, 0).fault for number in range(64)
    ]
    assert [file_size(one, number) for number in range(8)] != [file_size(other, number) for number in range(8)]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"files": 0}, "files"),
        ({"files": 10**9}, "files"),
        ({"size": -1}, "size"),
        ({"size_spread": math.nan}, "size spread"),
        ({"latency_s": -1.0}, "latency"),
        ({"latency_s": math.inf}, "latency"),
        ({"latency_spread": 9.0}, "latency spread"),
        ({"bandwidth": 0}, "bandwidth"),
        ({"total_bandwidth": 0}, "total bandwidth"),
        ({"concurrency": 0}, "concurrency"),
        ({"cpu_s": math.nan}, "CPU time"),
        ({"slow_after_s": -1.0}, "slow after"),
        ({"stall_s": -1.0}, "stall"),
        ({"retry_after_s": -1}, "retry-after"),
        ({"faults": {"moon": 0.1}}, "moon"),
        ({"faults": {"500": -0.5}}, "share of 500"),
        ({"faults": {"500": 0.7, "stall": 0.4}}, "more than 100%"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_served_say_which(wrong: dict[str, Any], named: str) -> None:
    """The message names the setting, and what to give."""
    with pytest.raises(UsageError, match=named) as raised:
        OriginSettings(**wrong).check()
    assert raised.value.fix


def test_settings_that_can_be_served_pass() -> None:
    """The defaults, and shares that add up to all, in binary to a bit more."""
    OriginSettings().check()
    OriginSettings(faults=even_faults(1.0)).check()
    OriginSettings(faults=parse_faults("500=70%,stall=20%,reset=10%")).check()


def test_fault_rates_are_read() -> None:
    """One share for all the ways together, or one for each that is named."""
    assert parse_faults("0") == {}
    assert parse_faults("8%") == pytest.approx({fault.value: 0.01 for fault in Fault})
    assert parse_faults("500=1%, stall=0.005") == {"500": 0.01, "stall": 0.005}


@pytest.mark.parametrize("text", ["moon=1%", "500=101%", "lots", "500", "500=", "=1%", "500=1%,"])
def test_fault_rates_are_checked(text: str) -> None:
    """The names there are, and shares of at most all."""
    with pytest.raises(UsageError):
        parse_faults(text)
