"""What one measurement costs the thread that makes it, against the instruments of the OpenTelemetry SDK.

Both in the same process, interleaved, with the same instruments and attributes, and both are read out meanwhile: ours
into the log every second, the SDK's by a reader that throws everything away. The medians of each round are reported.

    python benchmarks/metrics.py --measurements 100000 --rounds 7
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventflow import metrics
from eventflow.log.runs import create_run
from eventflow.recorder import Recorder

ATTRIBUTES: dict[str, str | int | float | bool] = {
    "http.request.method": "GET",
    "server.address": "example.org",
    "server.port": 443,
}
GOAL_MICROSECONDS = 3.0


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", type=int, default=100_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-"))
    try:
        run = create_run(folder, stage="benchmark")
        with Recorder(run.log, run.run) as recorder, metrics.recorded_by(recorder):
            _report(_measure(_kinds(), given.measurements, given.rounds))
    finally:
        shutil.rmtree(folder)


def _kinds() -> dict[str, Callable[[], None]]:
    meter = MeterProvider(metric_readers=[InMemoryMetricReader()]).get_meter("benchmark")
    count, size = metrics.counter("benchmark.count"), metrics.histogram("benchmark.size")
    timer, series = metrics.timer("benchmark.duration"), size.series(ATTRIBUTES)
    their_count, their_size = meter.create_counter("count"), meter.create_histogram("size")

    def stopwatch() -> None:
        with timer.time():
            pass

    return {
        "counter": lambda: count.add(1),
        "counter, 3 attributes": lambda: count.add(1, ATTRIBUTES),
        "histogram, 3 attributes": lambda: size.record(7.0, ATTRIBUTES),
        "histogram, its series kept": lambda: series.measure(7.0),
        "timer around nothing": stopwatch,
        "SDK: counter": lambda: their_count.add(1),
        "SDK: counter, 3 attributes": lambda: their_count.add(1, ATTRIBUTES),
        "SDK: histogram, 3 attributes": lambda: their_size.record(7.0, ATTRIBUTES),
    }


def _measure(kinds: dict[str, Callable[[], None]], measurements: int, rounds: int) -> dict[str, list[float]]:
    microseconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, measure in kinds.items():
            begun = time.perf_counter()
            for _ in range(measurements):
                measure()
            microseconds[name].append((time.perf_counter() - begun) / measurements * 1e6)
    return microseconds


def _report(microseconds: dict[str, list[float]]) -> None:
    print(f"| measurement | µs, median | lowest to highest | goal: at most {GOAL_MICROSECONDS:g} |")
    print("|---|---|---|---|")
    for name, found in microseconds.items():
        median = statistics.median(found)
        goal = "" if name.startswith("SDK") else "reached" if median <= GOAL_MICROSECONDS else "missed"
        print(f"| {name} | {median:.2f} | {min(found):.2f} to {max(found):.2f} | {goal} |")


if __name__ == "__main__":
    main()
