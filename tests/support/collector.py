"""The real collector with the configuration that is shipped, `otel/collector.yaml`: other hosts and ports."""

import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.support.running import Program, free_port

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "otel" / "collector.yaml"


class Collector(Program):
    """A collector that keeps its folder and its ports when it is killed and started again.

    Args:
        program: `otelcol`.
        folder: of its queue and its logs.
        jaeger: where it sends traces, as `host:port`.
        settings: other variables that the configuration reads.

    Attributes:
        http: the base address of OTLP over HTTP.
        grpc: the address of OTLP over gRPC.
        prometheus, own: where the metrics that it received are fetched, and its own.
        queue: the folder of the persistent queue.
        log_records: the file of the log records that it received.
    """

    def __init__(self, program: Path, folder: Path, *, jaeger: str, settings: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ports = {name: free_port() for name in ("GRPC", "HTTP", "PROMETHEUS", "HEALTH", "METRICS")}
        self.http, self.grpc = f"http://127.0.0.1:{ports['HTTP']}", f"http://127.0.0.1:{ports['GRPC']}"
        self.queue, self.log_records = folder / "queue", folder / "logs.jsonl"
        self.prometheus = f"http://127.0.0.1:{ports['PROMETHEUS']}/metrics"
        self.own = f"http://127.0.0.1:{ports['METRICS']}/metrics"
        environment = {
            "COLLECTOR_HOST": "127.0.0.1",
            **{f"COLLECTOR_{name}_PORT": str(port) for name, port in ports.items()},
            "COLLECTOR_FOLDER": str(folder),
            "COLLECTOR_JAEGER_ENDPOINT": jaeger,
            **(settings or {}),
        }
        command: list[str | Path] = [program, "--config", CONFIGURATION]
        # Beside the folder, which may be a file system that is full.
        log, ready = folder.parent / f"{folder.name}.log", f"http://127.0.0.1:{ports['HEALTH']}/"
        super().__init__(command, environment=environment, log=log, ready_url=ready)

    def metrics(self) -> str:
        """What Prometheus would fetch: the metrics that it received, as OpenMetrics."""
        return _fetch(self.prometheus)

    def own_metrics(self) -> dict[str, float]:
        """Its own metrics, each summed over its labels."""
        found: dict[str, float] = {}
        for line in _fetch(self.own).splitlines():
            if line and not line.startswith("#"):
                name, value = line.split("{")[0].split(" ")[0], float(line.split(" # ")[0].rsplit(" ", 1)[1])
                found[name] = found.get(name, 0) + value
        return found


def _fetch(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())
