"""`docker-compose.otel.yml` and the configurations beside it: accepted by the programs, pinned, closed, bounded."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.otel.yml"
OTEL = ROOT / "otel"
SERVICES = ("collector", "collector-watch", "jaeger", "prometheus")
WITH_VARIABLES = ("collector.yaml", "jaeger.yaml")
VARIABLE = re.compile(r"\$\{env:(\w+)(:-[^}]*)?\}")
MODULE = rb"%s\tv(\d+)\.(\d+)\.(\d+)"
MIB = 1 << 20

Service = dict[str, Any]


@pytest.fixture
def services() -> dict[str, Service]:
    """What the compose file says of each service, without Docker's own reading of it."""
    found: dict[str, Service] = msgspec.yaml.decode(COMPOSE.read_bytes())["services"]
    return found


@pytest.fixture
def service(request: pytest.FixtureRequest, services: dict[str, Service]) -> Service:
    """The service that the test names."""
    return services[request.param]


of_each_service = pytest.mark.parametrize("service", SERVICES, indirect=True)


def configuration(name: str) -> Any:
    """A configuration as the containers read it: every variable has its default."""
    text = (OTEL / name).read_text(encoding="utf-8")
    return msgspec.yaml.decode(VARIABLE.sub(lambda found: (found[2] or ":-")[2:], text))


def mebibytes(size: str) -> int:
    """`512m`, `2g` or `400MiB` in MiB."""
    number, unit = re.fullmatch(r"(\d+)([mg]|MiB)", size).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "g" else 1)


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """A program, when it has ended."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def built_from(program: Path, module: str) -> tuple[int, ...]:
    """The version of a Go module that a program was built from."""
    found = re.search(MODULE % re.escape(module.encode()), program.read_bytes())
    assert found
    return tuple(map(int, found.groups()))


@pytest.mark.part("otelcol", "jaeger")
@pytest.mark.parametrize(("program", "name"), [("otelcol", "collector.yaml"), ("jaeger", "jaeger.yaml")])
def test_the_program_accepts_its_configuration(
    program: str, name: str, part: Callable[[str], Path], tmp_path: Path
) -> None:
    """`validate` of the real program has nothing against what is shipped; and it would find a misspelt setting."""
    checked = run(part(program), "validate", f"--config={OTEL / name}")
    assert checked.returncode == 0, checked.stderr
    wrong = tmp_path / name
    wrong.write_text((OTEL / name).read_text(encoding="utf-8").replace("check_interval:", "check_intervall:"))
    checked = run(part(program), "validate", f"--config={wrong}")
    assert checked.returncode != 0
    assert "check_intervall" in checked.stderr


@pytest.mark.part("compose")
def test_the_compose_file_is_one(part: Callable[[str], Path], tmp_path: Path) -> None:
    """The loader of `docker compose` takes it, with its profile, and the plugin where there is one.

    It finds the files that are mounted, and would find a misspelt setting.
    """
    loaded = run(part("compose"), "--format", "json", COMPOSE)
    assert loaded.returncode == 0, loaded.stderr
    model = json.loads(loaded.stdout)
    assert set(model["services"]) == set(SERVICES)
    mounts = [mount for service in model["services"].values() for mount in service.get("volumes", [])]
    assert {Path(mount["source"]) for mount in mounts if mount["type"] == "bind"} == set(OTEL.iterdir())
    assert {mount["source"] for mount in mounts if mount["type"] == "volume"} == set(model["volumes"])
    wrong = tmp_path / "compose.yml"
    wrong.write_text(COMPOSE.read_text(encoding="utf-8").replace("pids_limit", "pid_limit"))
    assert "pid_limit" in run(part("compose"), wrong).stderr
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        checked = run("docker", "compose", "-f", COMPOSE, "--profile", "metrics", "config", "--quiet")
        assert checked.returncode == 0, checked.stderr


@pytest.mark.part("otelcol", "jaeger")
def test_what_is_shipped_is_what_is_tested(services: dict[str, Service], part: Callable[[str], Path]) -> None:
    """The images have the versions of the programs that the tests run. Jaeger's module 1.76 is its version 2.13."""
    tested = run(part("otelcol"), "--version").stdout.split()[-1]
    assert services["collector"]["image"] == f"otel/opentelemetry-collector-contrib:{tested}"
    _, minor, patch = built_from(part("jaeger"), "github.com/jaegertracing/jaeger")
    assert services["jaeger"]["image"] == f"jaegertracing/jaeger:2.{minor - 63}.{patch}"


@pytest.mark.part("prometheus")
def test_prometheus_is_the_one_that_is_tested(services: dict[str, Service], part: Callable[[str], Path]) -> None:
    """Prometheus' module 0.313 is its version 3.13."""
    _, minor, patch = built_from(part("prometheus"), "github.com/prometheus/prometheus")
    assert services["prometheus"]["image"] == f"prom/prometheus:v{minor // 100}.{minor % 100}.{patch}"


@of_each_service
def test_an_image_is_pinned(service: Service) -> None:
    """By its whole version: what runs tomorrow is what was tested."""
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])


@of_each_service
def test_a_service_is_restricted(service: Service) -> None:
    """Not root and no way to it, nothing of the image is written, no capability, a limit on processes and logs."""
    user, group = map(int, service["user"].split(":"))
    assert user > 0
    assert group > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


@of_each_service
def test_a_service_has_limits(service: Service) -> None:
    """Memory without swap, and processors; Go collects garbage before the limit, with room above it for all else."""
    limit = mebibytes(service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"]
    assert 0 < service["cpus"] <= 2
    if "GOMEMLIMIT" in (environment := service.get("environment", {})):
        assert 0.6 * limit < mebibytes(environment["GOMEMLIMIT"]) < 0.8 * limit


@pytest.mark.parametrize("name", ["collector", "jaeger"])
def test_garbage_is_collected_before_anything_is_refused(name: str, services: dict[str, Service]) -> None:
    """Go's limit is below that from which on `memory_limiter` refuses, and that is below what the kernel kills at."""
    limiter = configuration(f"{name}.yaml")["processors"]["memory_limiter"]
    refuses = (limiter["limit_percentage"] - limiter["spike_limit_percentage"]) / 100
    limit = mebibytes(services[name]["mem_limit"])
    assert mebibytes(services[name]["environment"]["GOMEMLIMIT"]) < refuses * limit < 0.85 * limit


@of_each_service
def test_only_this_machine_reaches_a_service(service: Service) -> None:
    """Every port is published on 127.0.0.1, under its own number."""
    for port in service.get("ports", []):
        host, outside, inside = port.split(":")
        assert host == "127.0.0.1"
        assert outside == inside


def test_only_needed_ports_are_published(services: dict[str, Service]) -> None:
    """OTLP goes to the collector only; Jaeger and Prometheus show their page."""
    published = {name: [port.split(":")[1] for port in service.get("ports", [])] for name, service in services.items()}
    assert published == {
        "collector": ["4317", "4318"],
        "collector-watch": [],
        "jaeger": ["16686"],
        "prometheus": ["9090"],
    }
    assert [name for name, service in services.items() if "profiles" in service] == ["prometheus"]


@of_each_service
def test_a_service_is_kept_up_and_watched(service: Service, services: dict[str, Service]) -> None:
    """It starts again when it ended, has time to stop, and is checked; the collector by `collector-watch`."""
    assert service["restart"] == "unless-stopped"
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    if service is services["collector"]:
        service = services["collector-watch"]
        assert service["healthcheck"]["test"][-1] == "http://collector:13133/"
    assert service["healthcheck"]["test"][:2] == ["CMD", "wget"]


def test_the_configurations_fit_the_compose_file(services: dict[str, Service]) -> None:
    """Each service reads the file that is mounted for it, and what one asks of another is where that listens."""
    for name in ("collector", "jaeger", "prometheus"):
        source, target, mode = services[name]["volumes"][0].split(":")
        assert (source, mode) == (f"./otel/{name}.yaml", "ro")
        assert services[name]["command"][0].partition("=")[2] == target
    collector, jaeger = configuration("collector.yaml"), configuration("jaeger.yaml")
    otlp = collector["receivers"]["otlp"]["protocols"]
    assert [otlp[kind]["endpoint"] for kind in ("grpc", "http")] == ["0.0.0.0:4317", "0.0.0.0:4318"]
    assert collector["exporters"]["otlp_grpc/jaeger"]["endpoint"] == "jaeger:4317"
    assert jaeger["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"
    assert jaeger["extensions"]["jaeger_query"]["http"]["endpoint"] == "0.0.0.0:16686"
    for extension in (jaeger["extensions"]["healthcheckv2"]["http"], collector["extensions"]["health_check"]):
        assert extension["endpoint"] == "0.0.0.0:13133"
    jobs = configuration("prometheus.yaml")["scrape_configs"]
    asked = [target for job in jobs for configs in job["static_configs"] for target in configs["targets"]]
    own = collector["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]
    listens = collector["exporters"]["prometheus"]["endpoint"].replace("0.0.0.0", "collector")
    assert asked == [listens, f"collector:{own['port']}"]
    stored = collector["extensions"]["file_storage/queue"]["directory"], collector["exporters"]["file/logs"]["path"]
    assert all(path.startswith("/var/lib/otelcol/") for path in stored)
    assert "collector:/var/lib/otelcol" in services["collector"]["volumes"]


def test_every_variable_has_a_default() -> None:
    """The containers set none of them; only tests do."""
    found = {name: VARIABLE.findall((OTEL / name).read_text(encoding="utf-8")) for name in WITH_VARIABLES}
    assert all(found.values())
    assert all(default for variables in found.values() for _, default in variables)


def test_nothing_stands_between_an_export_and_the_disk() -> None:
    """What makes the collector lossless: no processor that answers first, a queue on the disk, no end of trying."""
    collector = configuration("collector.yaml")
    assert all(line["processors"] == ["memory_limiter"] for line in collector["service"]["pipelines"].values())
    exporter = collector["exporters"]["otlp_grpc/jaeger"]
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert exporter["sending_queue"]["storage"] == "file_storage/queue"
    assert collector["extensions"]["file_storage/queue"]["fsync"] is True
    sent_max = exporter["sending_queue"]["batch"]["max_size"]
    jaeger_takes = configuration("jaeger.yaml")["receivers"]["otlp"]["protocols"]["grpc"]["max_recv_msg_size_mib"]
    assert sent_max < 4 * MIB < jaeger_takes * MIB
