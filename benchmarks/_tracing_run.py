"""One run of the director in one of the modes that `benchmarks/tracing.py` compares, and whether its spans arrived."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from typing import IO, Any, Literal, NamedTuple

from benchmarks._fetch_clients import HERE, Job, our_command
from benchmarks._tracing_collector import Collector
from eventflow.log.runs import find_run
from instrumentation.traces import read_spans

Mode = Literal["no recording", "events", "events + projection", "OpenTelemetry SDK"]
MODES: tuple[Mode, ...] = ("no recording", "events", "events + projection", "OpenTelemetry SDK")
NEEDS_COLLECTOR = frozenset(("events + projection", "OpenTelemetry SDK"))
OF_A_REQUEST = ("request", "queue", "attempt", "body", "verify", "store")
_SDK = str(HERE / "_tracing_sdk.py")


class Measured(NamedTuple):
    """One run.

    Attributes:
        seconds: of the run, as it measures itself: from its start to its end, without Python's.
        wall: seconds of the process, from its start to when it, and the export beside it, are over.
        cpu: seconds of processor time of the run's process.
        spans: how many there should be: those of its log, or those that the SDK made. 0 where there are none.
        arrived: how many went through the collector.
        problem: what is not as it must be; "" if nothing is.
    """

    seconds: float
    wall: float
    cpu: float
    spans: int = 0
    arrived: int = 0
    problem: str = ""

    @property
    def dropped(self) -> int:
        """How many did not arrive."""
        return self.spans - self.arrived


def command_of(mode: Mode, job: Job) -> list[str]:
    """The command of a run."""
    command = our_command(job, "director", 1, "recorder" if mode == "no recording" else None)
    if mode == "OpenTelemetry SDK":
        place = command.index("-m")
        command[place : place + 2] = [_SDK]
    return [*command, "--otlp" if mode == "events + projection" else "--no-otlp"]


def run_mode(mode: Mode, job: Job, collector: Collector | None) -> Measured:
    """Run it in a fresh process with fresh folders, which are removed after the measurement."""
    job.out.mkdir()
    command = command_of(mode, job)
    os.sync()
    before = collector.spans() if collector else 0
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=clean_environment(collector))
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already, say so to subprocess
        summary, complaint = _last_object(output), _text(errors)
    arrived = collector.spans() - before if collector else 0
    cpu = usage.ru_utime + usage.ru_stime
    try:
        if process.returncode or summary.get("completed") != len(job.urls):
            last = (complaint.strip().splitlines() or [""])[-1][:200]
            return Measured(0, wall, cpu, problem=f"{summary.get('completed')} completed, {process.returncode}: {last}")
        made = _made(mode, job, summary["run"], complaint)
        problem = _find_problem(mode, made, arrived, len(job.urls))
        return Measured(summary["seconds"], wall, cpu, made.total(), arrived, problem)
    finally:
        shutil.rmtree(job.out, ignore_errors=True)
        shutil.rmtree(job.store, ignore_errors=True)


def clean_environment(collector: Collector | None) -> dict[str, str]:
    """The environment without anybody's settings for OpenTelemetry, and with the collector's address."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return plain | ({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint} if collector else {})


def _made(mode: Mode, job: Job, run: str, complaint: str) -> Counter[str]:
    """The spans that there should be, by step."""
    if mode == "events + projection":
        return Counter(span.step for span in read_spans(find_run(job.store, run)))
    if mode == "OpenTelemetry SDK":
        told: dict[str, int] = json.loads(complaint.strip().splitlines()[-1])["made"]
        return Counter({"attempt" if name == "GET" else name: count for name, count in told.items()})
    return Counter()


def _find_problem(mode: Mode, made: Counter[str], arrived: int, requests: int) -> str:
    if mode not in NEEDS_COLLECTOR:
        return ""
    odd = {step: made[step] for step in OF_A_REQUEST if made[step] != requests}
    if odd:
        return f"{requests} requests, but other numbers of spans: {odd}"
    if mode == "events + projection" and arrived != made.total():
        return f"{arrived} of {made.total()} spans arrived"
    return ""


def _last_object(file: IO[bytes]) -> dict[str, Any]:
    with contextlib.suppress(ValueError, IndexError):
        found = json.loads(_text(file).strip().splitlines()[-1])
        return found if isinstance(found, dict) else {}
    return {}


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
