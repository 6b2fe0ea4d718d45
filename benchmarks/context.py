"""What it costs to make a span the current one, and to say which it is, against a span of the OpenTelemetry SDK.

Entering a span and leaving it: as user code without OpenTelemetry has it, with its API loaded and shown our span, and
with a span of the SDK's that is really recorded, which is what the same nesting would cost otherwise. Then the headers
of a request, and the environment of a program. Interleaved; the medians of the rounds are reported.

    python benchmarks/context.py --times 20000 --rounds 9
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from eventflow.log.runs import create_run
from eventflow.mirror import mirrored_by
from eventflow.propagation import Propagation
from eventflow.recorder import Recorder, Span
from instrumentation.context import OpenTelemetryContext

TURN_GOAL, SHOWN_GOAL = 1.0, 5.0
_HUNDRED = " ×100"  # ends the name of what does it a hundred times


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20_000, help="in each round")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eventflow-bench-"))
    try:
        run = create_run(folder, stage="benchmark")
        with Recorder(run.log, run.run) as recorder:
            span = recorder.open_stream("request-0")
            rows = _measure({"enter and leave": _turn(span), **_without_api(span)}, given.times, given.rounds)
            rows |= _measure(_with_api(span), given.times, given.rounds)
            rows |= _measure(_carriers(span), given.times, given.rounds)
    finally:
        shutil.rmtree(folder)
    print("| what | µs, median | lowest to highest | goal |\n|---|---|---|---|")
    for name, (found, goal) in rows.items():
        median = statistics.median(found)
        verdict = f"at most {goal:g}: {'reached' if median <= goal else 'missed'}" if goal else ""
        print(f"| {name.removesuffix(_HUNDRED)} | {median:.2f} | {min(found):.2f} to {max(found):.2f} | {verdict} |")


def _turn(span: Span) -> Callable[[], None]:
    def turn() -> None:
        with span:
            pass

    return turn


def _mirrored(span: Span, mirror: OpenTelemetryContext) -> Callable[[], None]:
    turn = _turn(span)

    def mirrored() -> None:
        with mirrored_by(mirror):
            for _ in range(100):
                turn()

    return mirrored


def _without_api(span: Span) -> dict[str, Callable[[], None]]:
    assert "opentelemetry.trace" not in sys.modules
    return {"enter and leave, as in every run (API not loaded) ×100": _mirrored(span, OpenTelemetryContext())}


def _with_api(span: Span) -> dict[str, Callable[[], None]]:
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("benchmark")

    def theirs() -> None:
        with tracer.start_as_current_span("span"):
            pass

    return {
        "enter and leave, shown to the API ×100": _mirrored(span, OpenTelemetryContext()),
        "SDK: a span of its own": theirs,
    }


def _carriers(span: Span) -> dict[str, Callable[[], None]]:
    propagation, trace_id, span_id = Propagation({}), span.stream.trace_id, span.span_id

    def headers() -> None:
        propagation.headers(trace_id, span_id)

    def environment() -> None:
        propagation.environment(os.environ, trace_id, span_id)

    return {"headers of a request": headers, "environment of a program": environment}


def _measure(
    kinds: dict[str, Callable[[], None]], times: int, rounds: int
) -> dict[str, tuple[list[float], float | None]]:
    microseconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, turn in kinds.items():
            many = 100 if name.endswith(_HUNDRED) else 1
            begun = time.perf_counter()
            for _ in range(times // many):
                turn()
            microseconds[name].append((time.perf_counter() - begun) / (times // many * many) * 1e6)
    goals = {"enter": TURN_GOAL, "headers": SHOWN_GOAL}
    return {
        name: (found, SHOWN_GOAL if "shown" in name else goals.get(name.split()[0]))
        for name, found in microseconds.items()
    }


if __name__ == "__main__":
    main()
