"""What connections share: places in order of arrival, and a link of one rate. And over sockets: so that it is felt."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.origin.content import content
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.scarce import Link, Places
from eventflow.origin.settings import SLOW_FACTOR, OriginSettings, latency_factor
from tests.unit.origin.talking import get, has_body, talk


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=60))
def test_places_are_for_so_many_in_order(most: int, coming: list[bool]) -> None:
    """Whoever comes and goes: no more inside than places, none empty while somebody waits, in order."""
    soon: list[int] = []
    places = Places(most, lambda admitted: admitted())
    inside: list[int] = []
    line: list[int] = []
    for number, comes in enumerate(coming):
        if comes:
            if places.enter(lambda number=number: soon.append(number)):  # type: ignore[misc]
                inside.append(number)
            else:
                line.append(number)
        elif inside:
            inside.pop(0)
            places.leave()
            assert soon == line[:1]
            inside += line[:1]
            del line[:1], soon[:]
        assert len(inside) <= most
        assert not line or len(inside) == most


@given(st.integers(1, 10**6), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 10**6)), min_size=1, max_size=30))
def test_a_link_has_one_rate(bandwidth: int, pieces: list[tuple[float, int]]) -> None:
    """One piece after the other, none sooner than its own length takes, all of them in the time of their sum."""
    link, now_s, last_s = Link(bandwidth), 0.0, 0.0
    for step_s, size in pieces:
        now_s += step_s
        sent_s = link.reserve(now_s, size)
        assert sent_s == pytest.approx(max(now_s, last_s) + size / bandwidth)
        last_s = sent_s


def test_latency_grows_when_the_time_has_come() -> None:
    """Not before, and never where it was not asked for."""
    settings = OriginSettings(slow_after_s=5)
    assert [latency_factor(settings, served_s) for served_s in (0, 4.9, 5, 100)] == [1, 1, SLOW_FACTOR, SLOW_FACTOR]
    assert latency_factor(OriginSettings(), 1e9) == 1


def fetch_all(origin: Origin, numbers: range) -> float:
    """Seconds for all of them at once, each on a connection of its own."""

    def one(number: int) -> None:
        said = talk(origin.port, get(number, "Connection: close\r\n"), quiet_s=20)
        assert said.body == content(origin.settings, number)

    begun = time.monotonic()
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(one, numbers))
    return time.monotonic() - begun


def test_more_than_the_places_wait_in_line() -> None:
    """Twelve requests of a tenth of a second in three places take four tenths at least, all are answered."""
    with start_origin(OriginSettings(files=12, size=100, latency_s=0.1, concurrency=3)) as origin:
        assert fetch_all(origin, range(12)) >= 0.39


def test_who_goes_gives_its_place_to_the_next() -> None:
    """Clients that leave while they are handled, and while they wait, hold up nobody for longer than their turn."""
    settings = OriginSettings(files=5, size=100, latency_s=0.2, concurrency=1)
    with start_origin(settings) as origin:
        for _ in range(5):
            talk(origin.port, get(0), enough=lambda data: True)
        said = talk(origin.port, get(1), enough=has_body(100))
        assert said.body == content(settings, 1)


def test_pipelined_requests_take_places_one_by_one() -> None:
    """Hundreds that come in one piece are answered in order."""
    with start_origin(OriginSettings(files=3, size=10, concurrency=1)) as origin:
        said = talk(origin.port, get(2) * 500 + get(1, "Connection: close\r\n"))
        assert said.data.count(b"HTTP/1.1 200 OK") == 501


@pytest.mark.parametrize("fault", ["reset", "short-body", "wrong-length", "500"])
def test_a_fault_gives_its_place_back(fault: str) -> None:
    """However an answer ends, the next request has its turn."""
    with start_origin(OriginSettings(files=5, size=100, concurrency=1, faults={fault: 1.0})) as origin:
        for number in range(5):
            assert talk(origin.port, get(number), enough=has_body(0)).end != "silent"


def test_the_total_bandwidth_is_for_all_together() -> None:
    """Four files of 50 kB at 400 kB/s take half a second, whether one after the other or at once."""
    with start_origin(OriginSettings(files=4, size=50_000, total_bandwidth=400_000)) as origin:
        assert 0.49 <= fetch_all(origin, range(4)) < 5
        assert 0.12 <= fetch_all(origin, range(1)) < 5


def test_cpu_time_is_taken_one_after_the_other() -> None:
    """Ten requests of twenty milliseconds take a fifth of a second of the process's CPU time."""
    with start_origin(OriginSettings(files=10, size=100, cpu_s=0.02)) as origin:
        before = sum(psutil.Process(origin.pid).cpu_times()[:2])
        assert fetch_all(origin, range(10)) >= 0.2
        assert sum(psutil.Process(origin.pid).cpu_times()[:2]) - before >= 0.15


def test_it_slows_down_after_a_time_and_begins_anew_at_a_reset() -> None:
    """Twenty milliseconds, then ten times as many; after the reset twenty again, for a time."""
    settings = OriginSettings(files=1, size=10, latency_s=0.02, slow_after_s=0.5)
    with start_origin(settings) as origin, httpx.Client() as client:
        url = f"{origin.url}/files/000000.bin"
        deadline_s = time.monotonic() + 20
        while client.get(url).elapsed.total_seconds() < 0.2:
            assert time.monotonic() < deadline_s
        origin.reset()
        assert client.get(url).elapsed.total_seconds() < 0.2
