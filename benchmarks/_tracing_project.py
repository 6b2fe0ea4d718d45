"""One long run, exported by one process on a core of its own: how fast, and with how much memory."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks._fetch_clients import Job, our_command
from benchmarks._fetch_run import Memory
from benchmarks._fetch_servers import pinned
from benchmarks._tracing_collector import Collector
from benchmarks._tracing_run import clean_environment
from eventflow.log.runs import find_run
from instrumentation.traces import read_spans


class Exported(NamedTuple):
    """An export. Seconds, but for what it says: `wall` is that of the process, its start-up included."""

    spans: int
    arrived: int
    wall: float
    cpu: float
    collector_cpu: float
    rss: int


def record_run(job: Job) -> str:
    """Run the director once for a long log; gives the run's name."""
    job.out.mkdir()
    command = [*our_command(job, "director", 1), "--no-otlp"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=clean_environment(None), check=True).stdout
    shutil.rmtree(job.out)
    return str(json.loads(said.strip().splitlines()[-1])["run"])


def count_spans(job: Job, run: str) -> int:
    """How many spans its log has."""
    return sum(1 for _ in read_spans(find_run(job.store, run)))


def export_run(job: Job, run: str, spans: int, collector: Collector, cores: str | None) -> Exported:
    """Send it once.

    Raises:
        SystemExit: it could not be sent.
    """
    before, theirs = collector.spans(), collector.cpu_seconds()
    command = [sys.executable, "-m", "eventflow", "export", run, "--to", "otlp", "--store", str(job.store), "--json"]
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            pinned(command, cores), stdout=subprocess.DEVNULL, stderr=errors, env=clean_environment(collector)
        )
        memory = Memory(process.pid)
        memory.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already, say so to subprocess
        memory.stop()
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"the export ended with {process.returncode}: {errors.read()[-500:]}")
    arrived, theirs = collector.spans() - before, collector.cpu_seconds() - theirs
    return Exported(spans, arrived, wall, usage.ru_utime + usage.ru_stime, theirs, memory.rss)


def make_job(urls: list[str], size: int, concurrency: int, work: Path, store: Path) -> Job:
    """The job of a run."""
    return Job(urls, size, concurrency, work, work / "out", store / "store")
