"""T12: no duration is the difference of two readings of the wall clock, which may be set at any time."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALL_CLOCK = re.compile(r"(?<!m)time_ns\(\)|\btime\.time_ns\b|time\.time\(|datetime\.now\(|\.utcnow\(|CLOCK_REALTIME")
READERS = {
    "eventflow/cli/prompt.py": "when a query saw the store, to show it",
    "eventflow/cli/top_watch.py": "how long ago an event was, to show it",
    "eventflow/cli/trace_overview.py": "until when a run that goes on is shown",
    "eventflow/director/origins.py": "Retry-After and RateLimit headers that name a time",
    "eventflow/log/runs.py": "the name of a run",
    "eventflow/recorder.py": "the time of an event",
    "eventflow/sources.py": "the clock itself",
    "eventflow/sweep.py": "the name of a sweep",
}


def test_only_a_few_places_read_the_wall_clock() -> None:
    """Each says what for. Everything that takes time is measured with a clock that never goes backwards."""
    paths = [path for package in ("eventflow", "stages", "instrumentation") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in paths if WALL_CLOCK.search(path.read_text(encoding="utf-8"))}
    assert found == set(READERS)
