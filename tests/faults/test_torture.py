"""T1: a hundred kills of writers at random instants, some of readers and sealers too, and nothing acknowledged is lost.

`make torture` kills a thousand.
"""

import random
from pathlib import Path

from tests.faults.torture import torture

KILLS = 100


def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    """O1 to O6 and O8 after each of them (O6 after some). The seed is new each time; the failure names it."""
    seed = random.SystemRandom().getrandbits(32)
    try:
        report = torture(tmp_path, KILLS, seed)
    except AssertionError as problem:
        raise AssertionError(f"seed {seed}: {problem}") from problem
    assert (report.kills, report.lost) == (KILLS, 0)
    assert report.events >= report.acknowledged > KILLS
    assert min(report.torn_bytes, report.seen, report.others) > 0
