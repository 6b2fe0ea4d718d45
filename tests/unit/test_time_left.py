import random

import pytest

from eventflow.time_left import Costs, about, fitted

TRUE = {"serial": (0.5, 0.022), "threads": (0.55, 0.004), "processes": (0.9, 0.012), "loop": (0.6, 0.003)}
SIZES = (1, 10, 100, 1000)


def cost(stage: str, size: int, chance: random.Random) -> float:
    """What a run takes on a noisy machine."""
    start, each = TRUE[stage]
    return (start + each * size) * chance.lognormvariate(0, 0.15)


def test_the_estimate_is_good_after_one_round() -> None:
    """Once each was run once, what is left is known within a quarter; after the warm-up within a factor of two."""
    chance, costs = random.Random(1), Costs()
    rounds = [[(stage, size) for size in SIZES for stage in TRUE] for _ in range(4)]
    true_round = sum(start + each * size for start, each in TRUE.values() for size in SIZES)
    for stage in TRUE:
        costs.note(stage, 20, cost(stage, 20, chance))
        costs.note(stage, 1, cost(stage, 1, chance))
    assert true_round / 2 < costs.left(rounds[0]) < true_round * 2
    for stage, size in rounds[0]:
        costs.note(stage, size, cost(stage, size, chance))
    left = [cell for one in rounds[1:] for cell in one]
    assert costs.left(left) == pytest.approx(3 * true_round, rel=0.25)


def test_a_stage_that_is_not_known_is_like_the_others() -> None:
    """Nothing known: some guess; others known: their median; one size known: it grows as the others do."""
    costs = Costs()
    assert costs.expected("loop", 100) > 0
    for size in (1, 100):
        costs.note("serial", size, 1 + 0.1 * size)
    assert costs.expected("loop", 1000) == pytest.approx(101)
    costs.note("loop", 100, 5.5)
    assert costs.expected("loop", 1000) == pytest.approx(5.5 * 101 / 11)
    assert costs.expected("loop", 100) == 5.5


@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_noise_never_makes_a_cost_negative(seconds: float) -> None:
    """Where more requests took less time by chance, both parts of the cost are still above 0."""
    for seed in range(200):
        chance = random.Random(seed)
        points = [(size, seconds * chance.lognormvariate(0, 0.5)) for size in (1, 3, 10)]
        start, each = fitted(points)
        assert start >= 0
        assert each > 0
        assert start + each * 10_000 > 0


def test_no_more_is_said_than_is_known() -> None:
    """Rounded up, in units that fit."""
    assert about(7.9) == "a few seconds"
    assert about(55) == "about 55 s"
    assert about(56) == "about 1 min"
    assert about(3600) == "about 1 h"
