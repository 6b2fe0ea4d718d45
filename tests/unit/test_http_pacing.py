"""The schedule of starts: never more than the rate allows, never in step, never stuck."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventflow.http.pacing import HOLD_S_MAX, Pacer


def starts_of(pacer: Pacer, now_s: float, chances: list[float], late_s: float = 0.0) -> list[float]:
    """When requests start if there is always one that waits, and whoever waits comes back `late_s` too late."""
    starts: list[float] = []
    for chance in chances:
        while wait := pacer.next_start(now_s, chance):
            now_s += wait + late_s
        starts.append(now_s)
    return starts


def test_without_a_rate_everything_starts_at_once() -> None:
    """Only a hold makes it wait, and after that everything goes again."""
    pacer = Pacer(None)
    assert [pacer.next_start(5.0, 0.9) for _ in range(3)] == [0.0, 0.0, 0.0]
    pacer.hold_until(7.0)
    assert pacer.next_start(5.0, 0.9) == 2.0
    assert [pacer.next_start(7.0, 0.9) for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("chance", "first"), [(0.0, 0.0), (0.5, 0.25), (0.999, 0.4995)])
def test_the_first_start_is_jittered_as_well(chance: float, first: float) -> None:
    """By up to half an interval, so that workers which begin together do not start in step."""
    assert Pacer(1.0).next_start(100.0, chance) == pytest.approx(first)


def test_asking_does_not_use_up_a_turn() -> None:
    """However often somebody asks too early, the time stays the same."""
    pacer = Pacer(1.0)
    assert pacer.next_start(10.0, 0.0) == 0.0
    assert [pacer.next_start(10.25, chance) for chance in (0.0, 0.9, 0.3)] == [0.75, 0.75, 0.75]


@pytest.mark.parametrize("late_s", [0.0, 0.001, 0.015])
@pytest.mark.parametrize("rate", [0.5, 10.0, 200.0])
def test_the_rate_is_reached(rate: float, late_s: float) -> None:
    """Also by a loop that wakes up late: on average one start an interval, whatever the jitter."""
    chances = [(number * 0.618) % 1 for number in range(201)]
    starts = starts_of(Pacer(rate), 1_000.0, chances, late_s)
    assert (starts[-1] - starts[0]) * rate == pytest.approx(200, abs=1 + late_s * rate)


def test_a_pause_is_no_credit_for_a_burst() -> None:
    """After an hour without requests, the next but one still waits half an interval at least, less the 20 ms."""
    pacer = Pacer(1.0)
    starts_of(pacer, 0.0, [0.0, 0.0])
    assert pacer.next_start(3_600.0, 0.0) == 0.0
    assert pacer.next_start(3_600.0, 0.0) == pytest.approx(0.48)


@given(
    rate=st.sampled_from([0.1, 1.0, 7.0, 100.0]),
    steps=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1, exclude_max=True)), min_size=2, max_size=60),
)
def test_in_no_time_do_more_start_than_the_rate_allows(rate: float, steps: list[tuple[float, float]]) -> None:
    """In any T seconds at most (T + slack) × rate + 1, with a slack of half an interval and 20 ms."""
    pacer, now_s, starts = Pacer(rate), 50.0, []
    for pause, chance in steps:
        now_s += pause / rate
        while not pacer.next_start(now_s, chance):
            starts.append(now_s)
    slack = 0.5 / rate + 0.02
    for first, begin in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= (starts[last] - begin + slack) * rate + 1 + 1e-6


@given(
    rate=st.sampled_from([None, 0.1, 1.0, 7.0, 100.0]),
    steps=st.lists(
        st.tuples(st.floats(0, 3), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 900)), max_size=40
    ),
)
def test_waits_tell_the_truth(rate: float | None, steps: list[tuple[float, float, float | None]]) -> None:
    """Not a moment before the time that was told, whoever asks meanwhile, and then at once (to a microsecond)."""
    pacer, now_s = Pacer(rate), 50.0
    for pause, chance, hold_s in steps:
        now_s += pause
        if hold_s is not None:
            pacer.hold_until(now_s + hold_s)
        wait = pacer.next_start(now_s, chance)
        if not wait:
            continue
        if wait > 1e-6:
            assert pacer.next_start(now_s + wait - 1e-6, 0.99) > 0
        now_s += wait + 1e-6
        assert pacer.next_start(now_s, chance) == 0


def test_a_hold_is_for_the_whole_origin_and_keeps_the_rate() -> None:
    """Nothing starts before its end, an earlier end does not shorten it, and after it there is no burst."""
    pacer = Pacer(10.0)
    assert pacer.next_start(0.0, 0.0) == 0.0
    pacer.hold_until(30.0)
    pacer.hold_until(20.0)
    assert pacer.next_start(1.0, 0.0) == 29.0
    starts = starts_of(pacer, 1.0, [0.0, 0.0, 0.0])
    assert starts[0] == pytest.approx(30.0)
    assert [later - sooner for sooner, later in pairwise(starts)] == pytest.approx([0.03, 0.1])


def test_the_start_after_a_hold_is_jittered() -> None:
    """Several processes are told the same time; they do not come back in the same instant."""
    pacer = Pacer(1.0)
    assert pacer.next_start(0.0, 0.0) == 0.0
    assert pacer.next_start(1.0, 0.8) == 0.0
    pacer.hold_until(10.0)
    assert pacer.next_start(9.0, 0.0) == pytest.approx(1.4)


@pytest.mark.parametrize("when_s", [1e9, float("inf")])
def test_no_hold_is_for_ever(when_s: float) -> None:
    """A server that names a time in a hundred years holds us up for as long as the limit says."""
    pacer = Pacer(None)
    pacer.hold_until(when_s)
    assert pacer.next_start(5.0, 0.0) == HOLD_S_MAX
    assert pacer.next_start(5.0 + HOLD_S_MAX, 0.0) == 0.0
