import math
import random
import statistics
from collections.abc import Callable

import pytest

from eventflow.cli.comparison import RUNS_ENOUGH
from eventflow.comparing import (
    LEVEL,
    REQUESTS_MIN,
    Ratio,
    compare,
    draw_medians,
    draw_quantiles,
    draw_seconds,
    in_words,
    interval,
    quantile,
    slices_for,
)

TRIALS = 300
RESAMPLES = 600
Sample = Callable[[random.Random], tuple[float, list[float] | None]]


def coverage(sample: Sample, truth: float, base_sample: Sample | None = None) -> float:
    """The share of experiments whose interval of the ratio of two independent samples holds the true ratio.

    `base_sample` is the other one; None for one of the same kind.
    """
    held = 0
    for trial in range(TRIALS):
        chance = random.Random(trial)
        (value, draws), (base, base_draws) = sample(chance), (base_sample or sample)(chance)
        ratio = compare(value * truth, base, [draw * truth for draw in draws or ()], base_draws)
        assert ratio is not None
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= truth <= ratio.high
    return held / TRIALS


def of_runs(count: int, spread: float = 0.1) -> Sample:
    """The median of several runs' times, with the true median 1."""

    def sample(chance: random.Random) -> tuple[float, list[float] | None]:
        values = [chance.lognormvariate(0, spread) for _ in range(count)]
        return statistics.median(values), draw_medians(values, chance, RESAMPLES)

    return sample


def of_quantile(share: float) -> Sample:
    """A quantile of a run's request durations."""

    def sample(chance: random.Random) -> tuple[float, list[float] | None]:
        values = sorted(chance.expovariate(1) for _ in range(400))
        return quantile(values, share), draw_quantiles(values, share, chance, RESAMPLES)

    return sample


def of_slices(chance: random.Random) -> tuple[float, list[float] | None]:
    """How long a run takes whose requests end at random, ten in a slice on average, after a start of a second."""
    needed, now = 500, 0.0
    ends = []
    for _ in range(needed):
        now += chance.expovariate(50)
        ends.append(now)
    counts = [0] * 50
    for end in ends:
        counts[min(49, int(end / now * 50))] += 1
    return 1 + now, draw_seconds(counts, now, 1.0, chance, RESAMPLES)


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(of_runs(10), id="runs"),
        pytest.param(of_quantile(0.5), id="median"),
        pytest.param(of_quantile(0.95), id="p95"),
        pytest.param(of_slices, id="slices"),
    ],
)
def test_the_interval_holds_the_truth_in_95_of_100_experiments(sample: Sample) -> None:
    """About: of 300 experiments with known distributions, within 4 standard deviations, whatever the true ratio is."""
    tolerance = 4 * math.sqrt(LEVEL * (1 - LEVEL) / TRIALS)
    assert LEVEL - tolerance <= coverage(sample, 1.0)
    assert LEVEL - tolerance <= coverage(sample, 2.0) < 1


def test_of_few_runs_the_interval_is_too_narrow() -> None:
    """As docs/sweep.md says: two of three cases with two runs, nine of ten with three; enough will do."""
    assert 0.55 < coverage(of_runs(2), 1.0) < 0.78
    assert 0.85 < coverage(of_runs(3), 1.0) < 0.95
    assert coverage(of_runs(RUNS_ENOUGH), 1.0) > 0.91


@pytest.mark.parametrize("count", [2, 3, 4])
def test_against_a_quiet_group_it_is_narrower_still(count: int) -> None:
    """As the notes say: half of all cases, three of four, seven of eight, since all runs may lie on one side."""
    expected = 1 - 2 / 2**count
    assert coverage(of_runs(count), 1.0, of_runs(count, spread=1e-6)) == pytest.approx(expected, abs=0.09)


def test_enough_runs_are_enough_against_a_quiet_group() -> None:
    """The number from which on a comparison says nothing about too few runs holds in the worst case, too."""
    assert coverage(of_runs(RUNS_ENOUGH), 1.0, of_runs(RUNS_ENOUGH, spread=1e-6)) > 0.91


def test_the_same_data_are_no_difference() -> None:
    """The same runs twice, drawn independently, are never called different."""
    values = [random.Random(1).lognormvariate(0, 0.3) for _ in range(6)]
    median = statistics.median(values)
    for seed in range(20):
        ratio = compare(
            median, median, draw_medians(values, random.Random(seed)), draw_medians(values, random.Random(-seed - 1))
        )
        assert ratio is not None
        assert (ratio.value, ratio.verdict, in_words(ratio, "faster", "slower")) == (1, "same", "no difference")


def test_the_same_generator_gives_the_same_interval() -> None:
    """So the same runs give the same answer each time."""
    values = [1.0, 2.0, 3.0, 4.0]
    assert draw_medians(values, random.Random(7)) == draw_medians(values, random.Random(7))


def test_the_quantile_is_drawn_as_if_requests_were_drawn() -> None:
    """The order statistic's own distribution agrees with drawing all requests with replacement."""
    chance = random.Random(3)
    values = sorted(chance.lognormvariate(0, 1) for _ in range(60))
    for share in (0.5, 0.95):
        quick = draw_quantiles(values, share, chance, 20_000)
        assert quick is not None
        slow = [quantile(sorted(chance.choices(values, k=60)), share) for _ in range(20_000)]
        for value in values:
            assert sum(draw <= value for draw in quick) == pytest.approx(sum(draw <= value for draw in slow), abs=500)


def test_of_too_little_nothing_is_said() -> None:
    """One run, a few requests, a few slices: no interval, and the words say so."""
    chance = random.Random(1)
    assert draw_medians([1.0], chance) is None
    assert draw_quantiles([1.0] * (REQUESTS_MIN - 1), 0.5, chance) is None
    assert slices_for(39) is None
    ratio = compare(2.0, 1.0, None, [1.0])
    assert ratio == Ratio(2.0)
    assert in_words(ratio, "faster", "slower") == "slower by 2 times, uncertain"
    assert in_words(Ratio(1.0), "faster", "slower") == "the same"
    assert in_words(compare(1.0, 0.0, None, None), "faster", "slower") == ""


def test_blocks_see_that_slow_slices_come_together() -> None:
    """The same slices in blocks of slow and fast ones give a wider interval than well mixed."""
    together, mixed = [20] * 25 + [2] * 25, [20, 2] * 25
    low, high = interval(draw_seconds(together, 10, 0, random.Random(1)))
    mixed_low, mixed_high = interval(draw_seconds(mixed, 10, 0, random.Random(1)))
    assert low < mixed_low <= 10 <= mixed_high < high


def test_small_differences_are_said_exactly_enough() -> None:
    """An interval never reads as if it began at no difference when it does not."""
    assert in_words(Ratio(0.98, 0.97, 0.992), "less", "more") == "less by 1.008 to 1.031 times"
    assert in_words(Ratio(30.0, 12.34, 56.78), "less", "more") == "more by 12.3 to 56.8 times"
