"""What one recorded event costs the thread that records it, against what people use today.

Peers, in the same process, interleaved: `logging.info` of a line with the same fields to a file, and a span of the
OpenTelemetry SDK with a batch processor whose exporter throws everything away. Of each round's mean, median and
99th percentile the medians are reported. What counts is the mean: one call in 32 makes the lines of all.

    python benchmarks/recorder.py --events 20000 --rounds 7
"""

import argparse
import logging
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from eventflow.log.runs import create_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import AttemptStarted


class _Discard(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000, help="events in each round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-"))
    try:
        _report(_measure(folder, options.events, options.rounds))
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, events: int, rounds: int) -> dict[str, list[list[int]]]:
    run = create_run(folder, stage="benchmark")
    recorder = Recorder(run.log, run.run)
    span = recorder.open_stream("request-0")
    logger = logging.getLogger("eventflow.benchmark")
    handler = logging.FileHandler(folder / "peer.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Discard()))
    tracer = provider.get_tracer("benchmark")

    def record_event() -> None:
        span.record(AttemptStarted(server_address="127.0.0.1", server_port=80))

    def log_line() -> None:
        logger.info("attempt.started server_address=%s server_port=%d", "127.0.0.1", 80)

    def make_span() -> None:
        tracer.start_span("attempt", attributes={"server.address": "127.0.0.1", "server.port": 80}).end()

    subjects = {"eventflow recorder": record_event, "logging.info to a file": log_line, "OTel SDK span": make_span}
    times: dict[str, list[list[int]]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            times[name].append(_time(subject, events))
            recorder.flush()
    recorder.close()
    provider.shutdown()
    return times


def _time(subject: Callable[[], None], events: int) -> list[int]:
    """Nanoseconds of each call, sorted."""
    clock = time.perf_counter_ns
    found = []
    for _ in range(events):
        begun = clock()
        subject()
        found.append(clock() - begun)
    return sorted(found)


def _report(times: dict[str, list[list[int]]]) -> None:
    def middle(name: str, share: float) -> float:
        return statistics.median(one[int(len(one) * share)] for one in times[name]) / 1000

    def mean(name: str) -> float:
        return statistics.median(statistics.fmean(one) for one in times[name]) / 1000

    base = mean("eventflow recorder")
    print(f"{'µs per event, in the producing thread':<38}{'mean':>8}{'median':>8}{'p99':>8}{'ratio of means':>18}")
    for name in times:
        median, high = middle(name, 0.5), middle(name, 0.99)
        print(f"{name:<38}{mean(name):>8.2f}{median:>8.2f}{high:>8.2f}{mean(name) / base:>17.1f}x")


if __name__ == "__main__":
    main()
