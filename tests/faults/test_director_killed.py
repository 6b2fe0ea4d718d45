"""The director, killed at any instant, goes on where it was. 200 kills: `make torture`."""

import random

import pytest

from tests.faults.director_kills import torture


@pytest.mark.timeout(240)
def test_killed_at_random_instants() -> None:
    """Nothing completed is fetched again, parts go on by Range, every file is right, the log verifies."""
    seed = random.SystemRandom().randrange(1 << 32) & ~1
    try:
        killed = torture(12, seed, files=200)
    except AssertionError as problem:
        raise AssertionError(f"seed {seed}: {problem}") from problem
    assert killed.kills >= 12
