"""An export against collectors that are slow, silent, odd or choosy: what is waited for, what is said, what is kept."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from eventflow.event import Payload
from eventflow.log.runs import create_run
from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from eventflow.recorder import Recorder
from tests.support.exporting import Exporter
from tests.support.faulty_collector import Fault, FaultyCollector
from tests.synthetic_log import write_run

ONLY_TRACES = {"OTEL_METRICS_EXPORTER": "none"}


class Scanned(Payload, frozen=True, kw_only=True):
    """An event of one's own that says a lot."""

    TYPE: ClassVar[str] = "page.scanned"
    text: str


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Four small files."""
    with start_origin(OriginSettings(files=4, size=300)) as running:
        yield running


def exported(exporter: Exporter, collector: FaultyCollector) -> None:
    """What the collector took is what the log says."""
    assert {(span.trace_id, span.span_id) for span in exporter.spans()} <= set(collector.received.taken)


def exporter_to(collector: FaultyCollector, folder: Path, **settings: str) -> Exporter:
    """A store with one synthetic run, to be exported there."""
    exporter = Exporter(folder, collector.http, "patience", **ONLY_TRACES, **settings)
    write_run(exporter.store, "threads", requests=30)
    return exporter


def test_a_collector_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    """Each answer after four seconds, longer than there is patience with one that is not there: all arrives."""
    with FaultyCollector(always=Fault(seconds=4)) as collector:
        exporter = exporter_to(collector, tmp_path)
        done = exporter.run("export", "latest", "--to", "otlp", "--follow")
        assert (done.status, done.result["left"]) == (0, 0), done
        exported(exporter, collector)


def test_a_collector_that_never_answers_is_named(tmp_path: Path) -> None:
    """It accepts connections and says nothing: one line says so, within the time-out and little more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        exporter = Exporter(tmp_path, address, "patience", **ONLY_TRACES, OTEL_EXPORTER_OTLP_TIMEOUT="2")
        write_run(exporter.store, "serial", requests=5)
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "eventflow", "export", "latest", "--to", "otlp"],
            cwd=tmp_path,
            env=exporter.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 3
        assert "does not answer" in done.stderr
        assert "None" not in done.stderr
        assert time.monotonic() - begun < 20


@pytest.mark.parametrize("status", [202, 204])
def test_every_status_of_success_is_one(tmp_path: Path, status: int) -> None:
    """What OpenTelemetry's exporters take for success is: nothing is sent twice."""
    with FaultyCollector(always=Fault(body=b"")) as collector:
        collector.always = Fault(body=b"", status=status)
        exporter = exporter_to(collector, tmp_path)
        done = exporter.run("export", "latest", "--to", "otlp")
        assert (done.status, done.result["left"]) == (0, 0), done
        assert collector.received.requests["traces"] == 1


def test_a_first_span_that_is_refused_holds_up_nothing(tmp_path: Path) -> None:
    """The run's very first span is never taken, all others are; it is counted, and the status is 1."""
    with FaultyCollector() as probe:
        exporter = exporter_to(probe, tmp_path)
        exporter.run("export", "latest", "--to", "otlp")
        first = next(iter(probe.received.taken))
    with FaultyCollector(refuses=first) as collector:
        exporter.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.http
        done = exporter.run("export", "latest", "--to", "otlp")
        assert (done.status, done.result["refused"], done.result["left"]) == (1, 1, 0), done
        assert set(collector.received.taken) == set(probe.received.taken) - {first}


def test_large_events_go_in_small_batches(tmp_path: Path) -> None:
    """Two thousand events of 40 KB would be one request of 80 MB, which the SDK does not send."""
    with FaultyCollector() as collector:
        exporter = Exporter(tmp_path, collector.http, "patience", **ONLY_TRACES)
        run = create_run(exporter.store, stage="serial")
        with Recorder(run.log, run.run) as recorder:
            for number in range(2_000):
                recorder.open_stream(f"page-{number}").record(Scanned(text="x" * 40_000))
        done = exporter.run("export", "latest", "--to", "otlp")
        assert (done.status, done.result["left"]) == (0, 0), done
        assert len(collector.received.taken) == 2_000
        assert collector.received.requests["traces"] > 10


def test_log_records_are_counted_for_themselves(tmp_path: Path) -> None:
    """Spans and log records are told apart in what is said to be sent."""
    with FaultyCollector() as collector:
        exporter = exporter_to(collector, tmp_path, OTEL_LOGS_EXPORTER="otlp")
        done = exporter.run("export", "latest", "--to", "otlp")
        assert done.status == 0, done
        assert done.result["log_records"] > 0
        assert done.result["sent"] == done.result["spans"] + done.result["log_records"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "no protocol that eventflow speaks"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "no exporter that eventflow has"),
        ({"OTEL_SDK_DISABLED": "true"}, ""),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
)
def test_a_variable_of_the_machine_does_not_stop_a_run(
    origin: Origin, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    """Nobody asked this run for an export; that there is none is said, and the files are fetched."""
    exporter = Exporter(tmp_path, "http://127.0.0.1:9", "patience", **settings)
    done = exporter.run("run", "serial", "--input", exporter.write_list(origin), "--out", str(tmp_path / "files"))
    assert (done.status, done.result["completed"]) == (0, 4), done
    assert said in done.errors
    asked = exporter.run("run", "serial", "--input", exporter.write_list(origin), "--otlp")
    assert asked.status == (0 if "OTEL_SDK_DISABLED" in settings else 2)


def test_what_lies_in_the_working_folder_is_not_run(origin: Origin, tmp_path: Path) -> None:
    """A file of the name of a library, in the folder where the run is started, is no library of the exporter's."""
    with FaultyCollector() as collector:
        exporter = Exporter(tmp_path, collector.http, "patience", **ONLY_TRACES)
        (tmp_path / "requests.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
        program = Path(sys.executable).with_name("eventflow")
        done = subprocess.run(
            [program, "run", "director", "--input", exporter.write_list(origin), "--out", "files", "--json"],
            cwd=tmp_path,
            env=exporter.environment | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "ran").exists()
        exported(exporter, collector)


def test_another_tenant_has_a_checkpoint_of_its_own(tmp_path: Path) -> None:
    """What went to one tenant of a collector, or sampled, did not go to the other."""
    with FaultyCollector() as collector:
        exporter = exporter_to(collector, tmp_path)
        command = ("export", "latest", "--to", "otlp", "--follow")
        assert exporter.run(*command, "--sample", "none").result["sent"] == 0
        first = exporter.run(*command).result["sent"]
        assert first > 0
        assert exporter.run(*command).result["sent"] == 0
        exporter.environment["OTEL_EXPORTER_OTLP_HEADERS"] = "x-scope-orgid=other"
        assert exporter.run(*command).result["sent"] == first
