"""The real collector for `benchmarks/tracing.py`: it receives OTLP over HTTP, counts, and throws everything away."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks._fetch_servers import pinned

HOW_TO_GET = "otelcol is not here: tests/parts/build otelcol"
_READY_SECONDS = 20.0

CONFIGURATION = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{otlp}"}}}}}}}}
exporters: {{debug: {{verbosity: basic}}}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [debug]}}
    metrics: {{receivers: [otlp], exporters: [debug]}}
    logs: {{receivers: [otlp], exporters: [debug]}}
  telemetry:
    logs: {{level: error}}
    metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}
"""


class Collector(NamedTuple):
    """Its address for `OTEL_EXPORTER_OTLP_ENDPOINT`, where it tells its own numbers, and its process."""

    endpoint: str
    own: str
    pid: int

    def spans(self) -> int:
        """How many spans went through it so far, to the end. What it has answered for is among them."""
        with urllib.request.urlopen(self.own, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        # It sends while it is asked, without a queue: what the sender heard yes to is out of it.
        return sum(
            int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith("otelcol_exporter_sent_spans")
        )

    def cpu_seconds(self) -> float:
        """User and system time until now."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


def collector_path() -> str | None:
    """Where otelcol is: on PATH, or where `tests/parts/build` keeps what it made."""
    built = os.environ.get("EVENTFLOW_PARTS") or str(Path.home() / ".cache" / "eventflow-parts")
    return shutil.which("otelcol", path=os.pathsep.join((os.environ.get("PATH", os.defpath), built)))


@contextlib.contextmanager
def run_collector(folder: Path, cores: str | None = None) -> Iterator[Collector]:
    """The collector on free ports, which stays on `cores`.

    Raises:
        SystemExit: it is not there, or does not start.
    """
    program = collector_path()
    if program is None:
        raise SystemExit(HOW_TO_GET)
    otlp, own = _free_port(), _free_port()
    configuration, log = folder / "collector.yaml", folder / "collector.log"
    configuration.write_text(CONFIGURATION.format(otlp=otlp, own=own))
    with (
        log.open("wb") as said,
        subprocess.Popen(pinned([program, "--config", str(configuration)], cores), stdout=said, stderr=said) as process,
    ):
        try:
            collector = Collector(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{own}/metrics", process.pid)
            _wait_ready(process, (otlp, own), log)
            yield collector
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_ready(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    for port in ports:
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        else:
            raise SystemExit(f"otelcol did not start: {log.read_text(errors='replace')[-500:]}")
