"""The adaptive limit against a model of origins, in simulated time."""

import functools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventflow.http.concurrency import INITIAL, LEAST, MOST, AdaptiveLimit, FixedLimit
from tests.origin_model import Limit, ModelClient, ModelOrigin, Simulation

SHARE_WANTED = 0.9
SIZE = 10_240
OWN_CPU_S = 1 / 8_000
KINDS = ("latency", "bandwidth", "cpu", "own cpu")


def origin_of(latency_s: float, places: int, kind: str, noise: float) -> ModelOrigin:
    """An origin of the grid: what is scarce allows 0.7 of what its places would."""
    scarce = 0.7 * places / latency_s
    return ModelOrigin(
        latency_s=latency_s,
        places=places,
        noise=noise,
        bandwidth=scarce * SIZE if kind == "bandwidth" else math.inf,
        cpu_s=1 / scarce if kind == "cpu" else 0.0,
    )


def steady_rate(limit: Limit, origin: ModelOrigin, kind: str, requests: int, spread: float) -> float:
    """Requests a second in the second half of so many."""
    own_cpu_s = OWN_CPU_S if kind == "own cpu" else 0.00002
    client = ModelClient(limit, size=SIZE, size_spread=spread, cpu_s=own_cpu_s)
    Simulation(origin, client).run(math.inf, requests)
    half = requests // 2
    return (requests - half) / (client.ended[-1] - client.ended[half - 1])


@functools.cache
def best_fixed(latency_s: float, places: int, kind: str, noise: float, spread: float) -> float:
    """The best that a fixed limit reaches."""
    tries = (places // 2, places, places * 2)
    return max(
        steady_rate(FixedLimit(limit), origin_of(latency_s, places, kind, noise), kind, max(1_000, 8 * limit), spread)
        for limit in tries
    )


@pytest.mark.parametrize(("kind", "noise"), [*((kind, 0.0) for kind in KINDS), ("latency", 0.3), ("bandwidth", 0.3)])
@pytest.mark.parametrize("places", [4, 32, 256])
@pytest.mark.parametrize("latency_s", [0.001, 0.02, 0.1])
def test_nine_tenths_of_the_best_fixed_limit(latency_s: float, places: int, kind: str, noise: float) -> None:
    """In each cell of the grid, also if latencies and sizes vary, after a few thousand requests."""
    spread = noise * 5 / 3
    requests = max(2_000, min(10_000, int(4 * places / latency_s)))
    found = steady_rate(AdaptiveLimit(), origin_of(latency_s, places, kind, noise), kind, requests, spread)
    # A whole number of generations in the measured half would be luck: the best is no more than what the origin can.
    best = min(best_fixed(latency_s, places, kind, noise, spread), 1.02 * places / latency_s * math.exp(noise**2 / 2))
    assert found >= SHARE_WANTED * best


@pytest.mark.parametrize(("latency_s", "places"), [(0.001, 4), (0.001, 32), (0.02, 32), (0.02, 256)])
def test_a_short_run_has_most_of_it_too(latency_s: float, places: int) -> None:
    """Of ten thousand requests at 8 000 a second of our own, the search costs less than a quarter."""
    client = ModelClient(AdaptiveLimit(), cpu_s=OWN_CPU_S)
    Simulation(ModelOrigin(latency_s=latency_s, places=places), client).run(math.inf, 10_000)
    assert 10_000 / client.ended[-1] >= 0.75 * min(8_000, places / latency_s)


@pytest.mark.parametrize(("latency_s", "places"), [(0.001, 32), (0.02, 32), (0.02, 256), (0.1, 4), (0.1, 256)])
@pytest.mark.parametrize("noise", [0.0, 0.3], ids=["even", "noisy"])
def test_a_slow_origin_gets_less_within_two_seconds(latency_s: float, places: int, noise: float) -> None:
    """When latency grows tenfold the limit at least halves; then it finds what is best now, and again afterwards."""
    origin = ModelOrigin(latency_s=latency_s, places=places, noise=noise)
    client = ModelClient(AdaptiveLimit())
    simulation = Simulation(origin, client)
    slow_s = 4.0 if latency_s < 0.02 else 12.0
    simulation.run(slow_s)
    before, rate = client.limit.limit, client.rate(slow_s / 2, slow_s)
    origin.latency_s *= 10
    simulation.run(slow_s + 2)
    assert min(limit for at_s, limit in client.limits if at_s > slow_s) <= (before + 1) // 2
    simulation.run(slow_s + 30)
    assert client.rate(slow_s + 15, slow_s + 30) >= 0.6 * rate / 10
    origin.latency_s /= 10
    simulation.run(slow_s + 40)
    assert client.rate(slow_s + 38, slow_s + 40) >= 0.85 * rate


@pytest.mark.parametrize(("latency_s", "places"), [(0.001, 32), (0.02, 32), (0.1, 256)])
def test_an_origin_that_refuses_gets_less_at_once_and_is_not_given_up(latency_s: float, places: int) -> None:
    """Every request answered 503: down to the least within two seconds; when it serves again, up again."""
    origin = ModelOrigin(latency_s=latency_s, places=places)
    client = ModelClient(AdaptiveLimit())
    simulation = Simulation(origin, client)
    simulation.run(8)
    rate = client.rate(4, 8)
    origin.refuse_above = 0
    simulation.run(10)
    assert client.limit.limit == LEAST
    origin.refuse_above = None
    simulation.run(17)
    assert client.rate(14, 17) >= 0.85 * rate


def test_an_origin_that_refuses_above_a_number_is_met_below_it() -> None:
    """The limit settles near what is not refused, and hardly any request is wasted on finding that out."""
    client = ModelClient(AdaptiveLimit())
    Simulation(ModelOrigin(latency_s=0.05, places=1_000, refuse_above=100), client).run(30)
    assert client.rate(15, 30) >= 0.9 * 100 / 0.05
    assert client.failed <= 0.02 * len(client.ended)


def test_more_that_brings_less_is_taken_back() -> None:
    """An origin that throttles everything when more than 64 are in flight is kept at 64 or less nearly always."""
    client = ModelClient(AdaptiveLimit(), cpu_s=1e-6)
    Simulation(ModelOrigin(latency_s=0.02, places=1_000, thrash_above=64), client).run(30)
    assert client.rate(10, 30) >= 0.8 * 64 / 0.02


def test_noise_does_not_bring_it_down() -> None:
    """Latencies and sizes over three orders of magnitude: still nine tenths of what twice the limit would give."""
    noisy = {"latency_s": 0.02, "places": 64, "noise": 1.0}
    client = ModelClient(AdaptiveLimit(), size_spread=1.5)
    Simulation(ModelOrigin(**noisy), client).run(30)  # type: ignore[arg-type]
    fixed = ModelClient(FixedLimit(128))
    Simulation(ModelOrigin(**noisy), fixed).run(15)  # type: ignore[arg-type]
    assert client.rate(10, 30) >= 0.9 * fixed.rate(3, 15)


def test_a_few_failures_do_not_bring_it_down() -> None:
    """Two in a hundred that are lost anyway say nothing about the number in flight."""
    client = ModelClient(AdaptiveLimit())
    Simulation(ModelOrigin(latency_s=0.02, places=32, lost=0.02), client).run(15)
    assert client.rate(5, 15) >= 0.9 * 32 / 0.02 * 0.98


def test_larger_files_are_not_a_slow_origin() -> None:
    """Files a hundred times as large take longer; that is no reason for fewer at once."""
    client = ModelClient(AdaptiveLimit())
    simulation = Simulation(ModelOrigin(latency_s=0.005, places=16, bandwidth=40e6), client)
    simulation.run(5)
    client.size *= 100
    began = len(client.limits)
    simulation.run(10)
    assert "slow" not in client.limit.reason  # type: ignore[attr-defined]
    assert min([limit for _, limit in client.limits[began:]], default=16) >= 8


@pytest.mark.parametrize("noise", [0.0, 0.3], ids=["even", "noisy"])
def test_two_clients_share_an_origin(noise: float) -> None:
    """One that comes later gets a third at least."""
    first, second = ModelClient(AdaptiveLimit()), ModelClient(AdaptiveLimit())
    simulation = Simulation(ModelOrigin(latency_s=0.02, places=32, noise=noise), first, second)
    simulation.clients = (first,)
    simulation.run(5)
    simulation.clients = (first, second)
    simulation.run(40)
    rates = first.rate(25, 40), second.rate(25, 40)
    assert min(rates) >= sum(rates) / 3
    assert sum(rates) >= 0.85 * 32 / (0.02 * math.exp(noise**2 / 2))


def test_too_little_to_do_teaches_nothing() -> None:
    """With four in flight because there are no more, the limit neither climbs nor falls."""
    client = ModelClient(AdaptiveLimit(), want=4)
    Simulation(ModelOrigin(latency_s=0.01, places=100), client).run(10)
    assert client.limits == [(0.0, INITIAL)]


def test_silence_halves_it_once() -> None:
    """Nothing for three times the usual latency, and half a second: fewer. How long it goes on is not its business."""
    limit = AdaptiveLimit(16)
    for number in range(1_000):
        limit.finished(number / 1_000, 0.016, limit.limit, SIZE, True)
    before = limit.limit
    assert not limit.waited(1.2)
    assert limit.waited(1.6)
    assert limit.limit < before
    assert limit.reason == "silent"
    assert not limit.waited(10.0)


def test_a_fixed_limit_is_fixed() -> None:
    """Whatever happens."""
    limit = FixedLimit(7)
    assert not limit.finished(1.0, 100.0, 7, 0, False)
    assert not limit.waited(1e9)
    assert (limit.limit, limit.reason) == (7, "fixed")


facts = st.tuples(st.floats(0, 0.5), st.floats(1e-4, 3), st.integers(1, 2_000), st.integers(0, 1 << 40), st.booleans())


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 2_000), st.lists(facts, max_size=20), st.integers(1, 40))
def test_it_stays_within_its_bounds_and_says_when_it_changes(
    least: int, more: int, initial: int, some: list[tuple[float, float, int, int, bool]], turns: int
) -> None:
    """Whatever it is told, in whatever order; and the same facts give the same limits."""
    limits = [AdaptiveLimit(initial, least=least, most=least + more) for _ in range(2)]
    now_s = 0.0
    for step_s, latency_s, in_flight, size_bytes, ok in some * turns:
        now_s += step_s
        before = limits[0].limit
        changed = [limit.finished(now_s, latency_s, in_flight, size_bytes, ok) for limit in limits]
        changed = [limit.waited(now_s + 1) or one for limit, one in zip(limits, changed, strict=True)]
        assert least <= limits[0].limit <= least + more <= MOST
        assert limits[0].limit == limits[1].limit
        assert changed[0] or limits[0].limit == before
